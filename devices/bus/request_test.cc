#include "devices/bus/request.h"

#include <algorithm>
#include <random>
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

// The driver may cut a request's memory in any way (VIRTIO 1.2, 2.7.4.1).
class CutMemory {
 public:
  CutMemory(const std::string& content, std::mt19937& source) {
    for (size_t at = 0; at < content.size();) {
      const size_t size = std::min<size_t>(source() % 9, content.size() - at);
      pieces_.push_back(content.substr(at, size));
      at += size;
    }
    for (std::string& piece : pieces_) buffers_.push_back(BufferOf(piece));
  }
  absl::Span<const Buffer> buffers() const { return buffers_; }
  std::string content() const {
    std::string all;
    for (const std::string& piece : pieces_) all += piece;
    return all;
  }

 private:
  std::vector<std::string> pieces_;
  std::vector<Buffer> buffers_;
};

std::string Letters(size_t size, std::mt19937& source) {
  std::string letters(size, ' ');
  for (char& c : letters) c = static_cast<char>('a' + source() % 26);
  return letters;
}

TEST(Request, ReadsTheSameHoweverTheMemoryIsCut) {
  std::mt19937 source(1);
  for (int round = 0; round < 200; ++round) {
    const std::string content = Letters(source() % 60, source);
    const CutMemory memory(content, source);
    Request request(0, 0, memory.buffers(), {});
    ASSERT_EQ(request.readable_size(), content.size());
    std::string read;
    for (int i = 0; i < 80; ++i) {
      std::string part(source() % 7, '-');
      const size_t n = request.Read(Bytes(part));
      ASSERT_EQ(n, std::min(part.size(), content.size() - read.size()));
      ASSERT_EQ(part.substr(n), std::string(part.size() - n, '-'))
          << "beyond what there is";
      read += part.substr(0, n);
    }
    ASSERT_EQ(read, content.substr(0, read.size()));
  }
}

TEST(Request, WritesTheSameHoweverTheMemoryIsCut) {
  std::mt19937 source(2);
  for (int round = 0; round < 200; ++round) {
    std::string model(source() % 60, '.');
    const CutMemory memory(model, source);
    Request request(0, 0, {}, memory.buffers());
    ASSERT_EQ(request.writable_size(), model.size());
    size_t position = 0;
    for (int i = 0; i < 20; ++i) {
      std::string part = Letters(source() % 9, source);
      const bool anywhere = source() % 2 == 0;
      const size_t at = anywhere ? source() % 70 : position;
      const size_t fits =
          at < model.size() ? std::min(part.size(), model.size() - at) : 0;
      const absl::Span<const uint8_t> bytes = Bytes(part);
      ASSERT_EQ(anywhere ? request.WriteAt(at, bytes) : request.Write(bytes),
                fits);
      if (!anywhere) position += fits;
      if (fits > 0) model.replace(at, fits, part, 0, fits);
    }
    ASSERT_EQ(memory.content(), model);
  }
}

// Who reads a header must not move on because of a payload that is not there.
TEST(Request, AReadOfNothingMovesNothing) {
  std::string a = "abc";
  const std::vector<Buffer> readable = {BufferOf(a)};
  Request request(0, 0, readable, {});
  EXPECT_EQ(request.Read({}), 0u);
  std::string out(3, '-');
  EXPECT_EQ(request.Read(Bytes(out)), 3u);
  EXPECT_EQ(out, "abc");
}

TEST(Request, OffersItsBuffersAsTheyCame) {
  std::string a = "ab", b = "c";
  const std::vector<Buffer> readable = {BufferOf(a)};
  const std::vector<Buffer> writable = {BufferOf(b)};
  const Request request(0, 0, readable, writable);
  ASSERT_EQ(request.readable().size(), 1u);
  EXPECT_EQ(request.readable()[0].data, readable[0].data);
  ASSERT_EQ(request.writable().size(), 1u);
  EXPECT_EQ(request.writable()[0].size, 1u);
}

TEST(Request, WithoutBuffersTakesAndGivesNothing) {
  Request request(0, 0, {}, {});
  std::string out(1, '-');
  EXPECT_EQ(request.Read(Bytes(out)), 0u);
  EXPECT_EQ(request.Write("x"), 0u);
}

}  // namespace
}  // namespace holdfast
