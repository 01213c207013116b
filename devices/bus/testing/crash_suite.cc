// What the macros of tools/bazel/device.bzl make of a device: each plan is a
// test.
#include "gtest/gtest.h"

// As in conformance_suite.cc.
#include HOLDFAST_CONFORMANCE_HEADER
#include HOLDFAST_DEVICE_HEADER

namespace holdfast::testing {
namespace {

auto Device() { return HOLDFAST_DEVICE_CLASS; }
using DevicePlan = decltype(CrashPlansOf(Device()))::value_type;

class Crashes : public ::testing::TestWithParam<DevicePlan> {};

TEST_P(Crashes, AreInvisible) {
  ExpectSurvives(Device(), GetParam().plan, /*least=*/2);
}

INSTANTIATE_TEST_SUITE_P(Of, Crashes,
                         ::testing::ValuesIn(CrashPlansOf(Device())),
                         [](const ::testing::TestParamInfo<DevicePlan>& info) {
                           return info.param.name;
                         });

}  // namespace
}  // namespace holdfast::testing
