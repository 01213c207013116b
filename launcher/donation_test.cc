#include "launcher/donation.h"

#include <set>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::launcher {
namespace {

TEST(Donation, NumbersAndNamesAreUnique) {
  for (const auto& plan :
       {DeviceDonations(), StoreDonations(), ApiDonations()}) {
    std::set<int> numbers;
    std::set<absl::string_view> names;
    for (const Donation& donation : plan) {
      EXPECT_TRUE(numbers.insert(donation.number).second) << donation.name;
      EXPECT_TRUE(names.insert(donation.name).second) << donation.name;
    }
  }
}

TEST(Donation, DeviceIsBornWithTheContractOfHandoff) {
  std::set<int> numbers;
  for (const Donation& donation : DeviceDonations()) {
    numbers.insert(donation.number);
  }
  std::set<int> contract;
  for (int number = 0; number < kHandoffEnd; ++number) contract.insert(number);
  EXPECT_EQ(numbers, contract);
}

TEST(Donation, StoreGetsNoSegmentAndNoControlChannel) {
  for (const Donation& donation : StoreDonations()) {
    EXPECT_NE(donation.gift, Gift::kSegment);
    EXPECT_NE(donation.gift, Gift::kControl);
    EXPECT_NE(donation.gift, Gift::kStoreChannel);
  }
}

TEST(Donation, ApiGetsNothingOfAnInstance) {
  int links = 0;
  for (const Donation& donation : ApiDonations()) {
    EXPECT_THAT(
        donation.gift,
        ::testing::AnyOf(Gift::kNull, Gift::kLog, Gift::kApiListener,
                         Gift::kFilter, Gift::kCoreWatch, Gift::kCoreLink));
    if (donation.gift == Gift::kCoreLink) ++links;
  }
  EXPECT_EQ(links, kApiLinks);
}

}  // namespace
}  // namespace holdfast::launcher
