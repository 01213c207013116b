#include "base/crc32c.h"

#include <array>
#include <cstring>

namespace holdfast {
namespace {

constexpr uint32_t kPolynomial = 0x82f63b78u;  // Reflected Castagnoli.

constexpr std::array<uint32_t, 256> MakeTable() {
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t c = i;
    for (int bit = 0; bit < 8; ++bit) {
      c = (c & 1) != 0 ? (c >> 1) ^ kPolynomial : c >> 1;
    }
    table[i] = c;
  }
  return table;
}

constexpr std::array<uint32_t, 256> kTable = MakeTable();

uint32_t ExtendPortable(uint32_t state, const uint8_t* p, size_t n) {
  for (; n != 0; --n) state = kTable[(state ^ *p++) & 0xff] ^ (state >> 8);
  return state;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) uint32_t ExtendSse42(uint32_t state,
                                                       const uint8_t* p,
                                                       size_t n) {
  uint64_t wide = state;
  for (; n >= 8; n -= 8, p += 8) {
    uint64_t word;
    std::memcpy(&word, p, sizeof(word));
    wide = __builtin_ia32_crc32di(wide, word);
  }
  state = static_cast<uint32_t>(wide);
  for (; n != 0; --n) state = __builtin_ia32_crc32qi(state, *p++);
  return state;
}

#endif

constexpr size_t kLanes = 4;
constexpr size_t kWord = sizeof(uint64_t);

uint64_t LoadWord(const uint8_t* p) {
  uint64_t word;
  std::memcpy(&word, p, kWord);
  return word;
}

Crc32cStripes Finish(uint64_t a, uint64_t b, uint64_t c, uint64_t d) {
  return {~(a | b << 32), ~(c | d << 32)};
}

#if defined(__x86_64__)
// One word of one lane. The words go from register to register: a buffer on
// the stack would cost more than the sum.
template <bool kCopy>
__attribute__((target("sse4.2"), always_inline)) inline uint64_t Step(
    uint64_t lane, uint8_t* to, const uint8_t* from) {
  const uint64_t word = LoadWord(from);
  if constexpr (kCopy) std::memcpy(to, &word, kWord);
  return __builtin_ia32_crc32di(lane, word);
}

template <bool kCopy>
__attribute__((target("sse4.2"))) Crc32cStripes StripedSse42(
    uint8_t* to, const uint8_t* from, size_t words) {
  uint64_t a = ~0u, b = ~0u, c = ~0u, d = ~0u;
  size_t at = 0;
  const size_t rows_end = words / kLanes * kLanes * kWord;
  for (; at != rows_end; at += kLanes * kWord) {
    a = Step<kCopy>(a, to + at, from + at);
    b = Step<kCopy>(b, to + at + kWord, from + at + kWord);
    c = Step<kCopy>(c, to + at + 2 * kWord, from + at + 2 * kWord);
    d = Step<kCopy>(d, to + at + 3 * kWord, from + at + 3 * kWord);
  }
  const size_t rest = words % kLanes;
  if (rest > 0) a = Step<kCopy>(a, to + at, from + at);
  if (rest > 1) b = Step<kCopy>(b, to + at + kWord, from + at + kWord);
  if (rest > 2) c = Step<kCopy>(c, to + at + 2 * kWord, from + at + 2 * kWord);
  return Finish(a, b, c, d);
}

const bool kHasSse42 = __builtin_cpu_supports("sse4.2");
#endif

template <bool kCopy>
Crc32cStripes StripedPortable(uint8_t* to, const uint8_t* from, size_t words) {
  uint32_t lanes[kLanes] = {~0u, ~0u, ~0u, ~0u};
  for (size_t i = 0; i < words; ++i) {
    const uint64_t word = LoadWord(from + i * kWord);
    lanes[i % kLanes] = ExtendPortable(
        lanes[i % kLanes], reinterpret_cast<const uint8_t*>(&word), kWord);
    if constexpr (kCopy) std::memcpy(to + i * kWord, &word, kWord);
  }
  return Finish(lanes[0], lanes[1], lanes[2], lanes[3]);
}

template <bool kCopy>
Crc32cStripes Striped(uint8_t* to, const uint8_t* from, size_t words) {
#if defined(__x86_64__)
  if (kHasSse42) return StripedSse42<kCopy>(to, from, words);
#endif
  return StripedPortable<kCopy>(to, from, words);
}

}  // namespace

Crc32cStripes Crc32cStriped(const uint8_t* from, size_t words) {
  return Striped<false>(nullptr, from, words);
}

Crc32cStripes Crc32cStripedCopy(uint8_t* to, const uint8_t* from,
                                size_t words) {
  return Striped<true>(to, from, words);
}

uint32_t Crc32cExtend(uint32_t crc, absl::Span<const uint8_t> bytes) {
  const uint32_t state = ~crc;
#if defined(__x86_64__)
  if (kHasSse42) return ~ExtendSse42(state, bytes.data(), bytes.size());
#endif
  return ~ExtendPortable(state, bytes.data(), bytes.size());
}

uint32_t Crc32c(absl::Span<const uint8_t> bytes) {
  return Crc32cExtend(0, bytes);
}

}  // namespace holdfast
