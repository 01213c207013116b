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

}  // namespace

namespace internal {

#if defined(__x86_64__)
const bool kHasCrc32Instruction = __builtin_cpu_supports("sse4.2");
#else
const bool kHasCrc32Instruction = false;
#endif

template <bool kCopy>
Crc32cStripes StripedPortable(uint8_t* to, const uint8_t* from, size_t words) {
  constexpr size_t kWord = sizeof(uint64_t);
  uint32_t lanes[4] = {~0u, ~0u, ~0u, ~0u};
  for (size_t i = 0; i < words; ++i) {
    uint8_t word[kWord];
    std::memcpy(word, from + i * kWord, kWord);
    lanes[i % 4] = ExtendPortable(lanes[i % 4], word, kWord);
    if constexpr (kCopy) std::memcpy(to + i * kWord, word, kWord);
  }
  return {~(lanes[0] | uint64_t{lanes[1]} << 32),
          ~(lanes[2] | uint64_t{lanes[3]} << 32)};
}

template Crc32cStripes StripedPortable<false>(uint8_t*, const uint8_t*, size_t);
template Crc32cStripes StripedPortable<true>(uint8_t*, const uint8_t*, size_t);

}  // namespace internal

uint32_t Crc32cExtend(uint32_t crc, absl::Span<const uint8_t> bytes) {
  const uint32_t state = ~crc;
#if defined(__x86_64__)
  if (internal::kHasCrc32Instruction) {
    return ~ExtendSse42(state, bytes.data(), bytes.size());
  }
#endif
  return ~ExtendPortable(state, bytes.data(), bytes.size());
}

uint32_t Crc32c(absl::Span<const uint8_t> bytes) {
  return Crc32cExtend(0, bytes);
}

}  // namespace holdfast
