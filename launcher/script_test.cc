#include "launcher/script.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::launcher {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

TEST(Script, TheFirstLineNamesTheInterpreter) {
  EXPECT_THAT(InterpreterOf("#!/bin/sh\nexec true\n"), ElementsAre("/bin/sh"));
  EXPECT_THAT(InterpreterOf("#! \t/bin/sh \n"), ElementsAre("/bin/sh"));
}

TEST(Script, WhatFollowsItIsOneWord) {
  EXPECT_THAT(InterpreterOf("#!/usr/bin/env python3 -B \nimport os\n"),
              ElementsAre("/usr/bin/env", "python3 -B"));
}

TEST(Script, ProgramsAreNone) {
  EXPECT_THAT(InterpreterOf("\x7f"
                            "ELF"),
              IsEmpty());
  EXPECT_THAT(InterpreterOf(""), IsEmpty());
  EXPECT_THAT(InterpreterOf("#"), IsEmpty());
  EXPECT_THAT(InterpreterOf("#!\n/bin/sh\n"), IsEmpty());
}

TEST(Script, ACutLineNamesNobody) {
  EXPECT_THAT(InterpreterOf("#!/bin/sh"), IsEmpty());
  EXPECT_THAT(InterpreterOf("#!" + std::string(kScriptHead, 'a') + "\n"),
              IsEmpty());
  EXPECT_THAT(InterpreterOf(std::string("#!/bin/\0sh\n", 11)), IsEmpty());
}

}  // namespace
}  // namespace holdfast::launcher
