#include "devices/bus/request.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace holdfast {
namespace {

Buffer BufferOf(std::string& s) {
  return {reinterpret_cast<uint8_t*>(s.data()), s.size()};
}

absl::Span<uint8_t> Bytes(std::string& s) {
  return {reinterpret_cast<uint8_t*>(s.data()), s.size()};
}

TEST(Request, ReadsOverTheBordersOfBuffers) {
  std::string a = "abc", b, c = "defgh";
  const std::vector<Buffer> readable = {BufferOf(a), BufferOf(b), BufferOf(c)};
  Request request(3, 7, readable, {});
  EXPECT_EQ(request.queue(), 3);
  EXPECT_EQ(request.head(), 7);
  EXPECT_EQ(request.readable_size(), 8u);
  std::string out(5, '-');
  EXPECT_EQ(request.Read(Bytes(out)), 5u);
  EXPECT_EQ(out, "abcde");
  EXPECT_EQ(request.Read(Bytes(out)), 3u);
  EXPECT_EQ(out.substr(0, 3), "fgh");
  EXPECT_EQ(request.Read(Bytes(out)), 0u);
}

TEST(Request, WritesNoMoreThanFits) {
  std::string a(2, '.'), b(3, '.');
  const std::vector<Buffer> writable = {BufferOf(a), BufferOf(b)};
  Request request(0, 0, {}, writable);
  EXPECT_EQ(request.Write("xyz"), 3u);
  EXPECT_EQ(request.Write("uvw"), 2u);
  EXPECT_EQ(request.Write("!"), 0u);
  EXPECT_EQ(a + b, "xyzuv");
}

TEST(Request, WriteAtLeavesThePositionAlone) {
  std::string a(4, '.'), b(4, '.');
  const std::vector<Buffer> writable = {BufferOf(a), BufferOf(b)};
  Request request(0, 0, {}, writable);
  const uint8_t status = 'S';
  EXPECT_EQ(request.WriteAt(7, {&status, 1}), 1u);
  EXPECT_EQ(request.WriteAt(8, {&status, 1}), 0u);
  EXPECT_EQ(request.WriteAt(~size_t{0}, {&status, 1}), 0u);
  EXPECT_EQ(request.Write("ab"), 2u);
  EXPECT_EQ(a + b, "ab.....S");
}

TEST(Request, WithoutBuffersTakesAndGivesNothing) {
  Request request(0, 0, {}, {});
  std::string out(1, '-');
  EXPECT_EQ(request.Read(Bytes(out)), 0u);
  EXPECT_EQ(request.Write("x"), 0u);
}

}  // namespace
}  // namespace holdfast
