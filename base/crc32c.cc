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

const bool kHasSse42 = __builtin_cpu_supports("sse4.2");
#endif

}  // namespace

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
