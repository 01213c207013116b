#include "launcher/account_names.h"

#include "gtest/gtest.h"

namespace holdfast::launcher {
namespace {

constexpr char kTable[] =
    "root:x:0:0:root:/root:/bin/bash\n"
    "libvirt-qemu:x:64055:104::/var/lib/libvirt:/usr/sbin/nologin\n"
    "\n"
    "torn:x\n"
    "word:x:many:\n"
    "minus:x:-1:\n"
    "none:x:4294967295:\n"
    "kvm:x:104:libvirt-qemu,alice\n"
    "kvm:x:999:\n"
    "last:x:7";

TEST(AccountNames, NameIsFoundWithItsNumber) {
  EXPECT_EQ(FindAccount(kTable, "root"), 0u);
  EXPECT_EQ(FindAccount(kTable, "libvirt-qemu"), 64055u);
  EXPECT_EQ(FindAccount(kTable, "last"), 7u);
}

TEST(AccountNames, FirstLineCounts) {
  EXPECT_EQ(FindAccount(kTable, "kvm"), 104u);
}

TEST(AccountNames, NumberNeedsNoLine) {
  EXPECT_EQ(FindAccount("", "64055"), 64055u);
  EXPECT_EQ(FindAccount(kTable, "0"), 0u);
}

TEST(AccountNames, WhatIsNotThereIsNotFound) {
  for (const char* name :
       {"", "roo", "root:x", "x", "alice", "/root", "kvm:"}) {
    EXPECT_EQ(FindAccount(kTable, name), std::nullopt) << name;
  }
}

// -1 in any spelling would leave the file with the launcher's own ids.
TEST(AccountNames, NumbersThatAreNoneAreNotFound) {
  for (const char* name :
       {"torn", "word", "minus", "none", "-1", "4294967295", "4294967296"}) {
    EXPECT_EQ(FindAccount(kTable, name), std::nullopt) << name;
  }
}

}  // namespace
}  // namespace holdfast::launcher
