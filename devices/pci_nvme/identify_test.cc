#include "devices/pci_nvme/identify.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace holdfast::nvme {
namespace {

using ::testing::Each;
using ::testing::StartsWith;

Identity Disk() {
  Identity identity;
  identity.vendor = 0x1234;
  identity.serial = "S123";
  identity.model = "A model";
  identity.namespaces = {{2048, 12}};
  return identity;
}

class IdentifyTest : public ::testing::Test {
 protected:
  Status Ask(Cns cns, uint32_t nsid = 0) {
    return Identify(identity_, static_cast<uint8_t>(cns), nsid, &page_);
  }
  template <typename T>
  T As() {
    T data;
    std::memcpy(&data, page_.data(), sizeof(data));
    return data;
  }

  Identity identity_ = Disk();
  IdentifyPage page_;
};

TEST_F(IdentifyTest, DescribesTheController) {
  ASSERT_EQ(Ask(Cns::kController), Status::kSuccess);
  const auto data = As<ControllerData>();
  EXPECT_EQ(data.vendor, 0x1234);
  EXPECT_EQ(std::string(data.serial, 20), "S123                ");
  EXPECT_THAT(std::string(data.model, 40), StartsWith("A model  "));
  EXPECT_EQ(data.version, 0x00010400u);
  EXPECT_EQ(data.max_transfer, 7);
  EXPECT_EQ(data.sq_entry_sizes, 0x66);
  EXPECT_EQ(data.cq_entry_sizes, 0x44);
  EXPECT_EQ(data.namespaces, 1u);
  EXPECT_EQ(data.type, 1);
  EXPECT_EQ(std::string(data.subsystem_name),
            "nqn.2026-01.org.holdfast:nvme:S123");
}

TEST_F(IdentifyTest, TextsThatAreTooLongAreCut) {
  identity_.serial = std::string(30, 'x');
  identity_.model = std::string(300, 'y');
  ASSERT_EQ(Ask(Cns::kController), Status::kSuccess);
  const auto data = As<ControllerData>();
  EXPECT_EQ(std::string(data.serial, 20), std::string(20, 'x'));
  EXPECT_EQ(std::string(data.model, 40), std::string(40, 'y'));
  EXPECT_EQ(data.firmware[0], '1');
}

TEST_F(IdentifyTest, DescribesTheNamespace) {
  identity_.read_only = true;
  ASSERT_EQ(Ask(Cns::kNamespace, 1), Status::kSuccess);
  const auto data = As<NamespaceData>();
  EXPECT_EQ(data.size, 2048u);
  EXPECT_EQ(data.capacity, 2048u);
  EXPECT_EQ(data.lba_formats[0], 12u << 16);
  EXPECT_EQ(data.formats, 0);
  EXPECT_EQ(data.attributes, 1);
}

TEST_F(IdentifyTest, DescribesEachNamespaceByItsNumber) {
  identity_.namespaces = {{2048, 12}, {77, 9}, {1, 9}};
  ASSERT_EQ(Ask(Cns::kNamespace, 1), Status::kSuccess);
  const auto first = As<NamespaceData>();
  ASSERT_EQ(Ask(Cns::kNamespace, 2), Status::kSuccess);
  const auto second = As<NamespaceData>();
  EXPECT_EQ(second.size, 77u);
  EXPECT_EQ(second.lba_formats[0], 9u << 16);
  EXPECT_NE(std::memcmp(first.eui64, second.eui64, 8), 0) << "one name each";
  EXPECT_EQ(Ask(Cns::kNamespace, 4), Status::kInvalidNamespace);
  EXPECT_EQ(Ask(Cns::kDescriptors, 3), Status::kSuccess);
  EXPECT_EQ(Ask(Cns::kDescriptors, 4), Status::kInvalidNamespace);
  ASSERT_EQ(Ask(Cns::kController), Status::kSuccess);
  EXPECT_EQ(As<ControllerData>().namespaces, 3u);
  ASSERT_EQ(Ask(Cns::kActiveNamespaces, 1), Status::kSuccess);
  const auto list = As<std::array<uint32_t, 3>>();
  EXPECT_EQ(list, (std::array<uint32_t, 3>{2, 3, 0}));
}

TEST_F(IdentifyTest, AFingerprintIsOfAllButSizes) {
  const uint32_t before = identity_.fingerprint();
  EXPECT_NE(before, 0u);
  identity_.namespaces[0].blocks = 4096;
  EXPECT_EQ(identity_.fingerprint(), before);
  identity_.namespaces.push_back({2048, 12});
  EXPECT_NE(identity_.fingerprint(), before);
  identity_.namespaces = {{2048, 9}};
  EXPECT_NE(identity_.fingerprint(), before);
}

TEST_F(IdentifyTest, WhatAllNamespacesHaveInCommonIsNoSize) {
  ASSERT_EQ(Ask(Cns::kNamespace, 0xffffffff), Status::kSuccess);
  EXPECT_EQ(As<NamespaceData>().size, 0u);
  EXPECT_EQ(As<NamespaceData>().lba_formats[0], 12u << 16);
}

TEST_F(IdentifyTest, ListsNamespacesAboveTheOneThatIsNamed) {
  ASSERT_EQ(Ask(Cns::kActiveNamespaces, 0), Status::kSuccess);
  EXPECT_EQ(page_[0], 1);
  EXPECT_EQ(std::count(page_.begin(), page_.end(), 0), 4095);
  ASSERT_EQ(Ask(Cns::kActiveNamespaces, 1), Status::kSuccess);
  EXPECT_THAT(page_, Each(0));
  EXPECT_EQ(Ask(Cns::kActiveNamespaces, 0xfffffffe), Status::kInvalidNamespace);
  EXPECT_EQ(Ask(Cns::kActiveNamespaces, 0xffffffff), Status::kInvalidNamespace);
}

TEST_F(IdentifyTest, ANameOfADiskIsOfItsSerialNumber) {
  ASSERT_EQ(Ask(Cns::kDescriptors, 1), Status::kSuccess);
  EXPECT_EQ(page_[0], 1) << "an EUI-64";
  EXPECT_EQ(page_[1], 8);
  EXPECT_EQ(page_[4], 2) << "administered locally";
  EXPECT_EQ(page_[12], 0) << "the list ends";
  const IdentifyPage first = page_;
  ASSERT_EQ(Ask(Cns::kNamespace, 1), Status::kSuccess);
  EXPECT_EQ(std::memcmp(As<NamespaceData>().eui64, first.data() + 4, 8), 0);
  ASSERT_EQ(Ask(Cns::kDescriptors, 1), Status::kSuccess);
  EXPECT_EQ(page_, first);
  identity_.serial = "S124";
  ASSERT_EQ(Ask(Cns::kDescriptors, 1), Status::kSuccess);
  EXPECT_NE(page_, first);
}

TEST_F(IdentifyTest, RefusesWhatIsNotThere) {
  for (const uint32_t nsid : {0u, 2u, 0xfffffffeu}) {
    EXPECT_EQ(Ask(Cns::kNamespace, nsid), Status::kInvalidNamespace);
    EXPECT_EQ(Ask(Cns::kDescriptors, nsid), Status::kInvalidNamespace);
  }
  for (const int cns : {0x04, 0x10, 0x13, 0xff}) {
    EXPECT_EQ(Ask(static_cast<Cns>(cns), 1), Status::kInvalidField);
  }
}

}  // namespace
}  // namespace holdfast::nvme
