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

template <bool kCopy>
__attribute__((target("sse4.2"))) void StripedSse42(uint8_t* to,
                                                    const uint8_t* from,
                                                    size_t words,
                                                    uint32_t* sums) {
  constexpr size_t kRow = kCrc32cLanes * sizeof(uint64_t);
  uint64_t a = ~0u, b = ~0u, c = ~0u, d = ~0u;
  uint64_t w[kCrc32cLanes];
  for (; words >= kCrc32cLanes; words -= kCrc32cLanes, from += kRow) {
    std::memcpy(w, from, kRow);
    a = __builtin_ia32_crc32di(a, w[0]);
    b = __builtin_ia32_crc32di(b, w[1]);
    c = __builtin_ia32_crc32di(c, w[2]);
    d = __builtin_ia32_crc32di(d, w[3]);
    if constexpr (kCopy) {
      std::memcpy(to, w, kRow);
      to += kRow;
    }
  }
  const auto next = [&](uint64_t & lane) __attribute__((target("sse4.2"))) {
    std::memcpy(w, from, sizeof(w[0]));
    lane = __builtin_ia32_crc32di(lane, w[0]);
    from += sizeof(w[0]);
    if constexpr (kCopy) {
      std::memcpy(to, w, sizeof(w[0]));
      to += sizeof(w[0]);
    }
  };
  if (words > 0) next(a);
  if (words > 1) next(b);
  if (words > 2) next(c);
  sums[0] = ~static_cast<uint32_t>(a);
  sums[1] = ~static_cast<uint32_t>(b);
  sums[2] = ~static_cast<uint32_t>(c);
  sums[3] = ~static_cast<uint32_t>(d);
}

const bool kHasSse42 = __builtin_cpu_supports("sse4.2");
#endif

template <bool kCopy>
void StripedPortable(uint8_t* to, const uint8_t* from, size_t words,
                     uint32_t* sums) {
  uint32_t lanes[kCrc32cLanes] = {~0u, ~0u, ~0u, ~0u};
  for (size_t i = 0; i < words; ++i) {
    uint8_t word[sizeof(uint64_t)];
    std::memcpy(word, from + i * sizeof(word), sizeof(word));
    uint32_t& lane = lanes[i % kCrc32cLanes];
    lane = ExtendPortable(lane, word, sizeof(word));
    if constexpr (kCopy) {
      std::memcpy(to + i * sizeof(word), word, sizeof(word));
    }
  }
  for (size_t i = 0; i < kCrc32cLanes; ++i) sums[i] = ~lanes[i];
}

template <bool kCopy>
void Striped(uint8_t* to, const uint8_t* from, size_t words, uint32_t* sums) {
#if defined(__x86_64__)
  if (kHasSse42) return StripedSse42<kCopy>(to, from, words, sums);
#endif
  StripedPortable<kCopy>(to, from, words, sums);
}

}  // namespace

void Crc32cStriped(const uint8_t* from, size_t words,
                   uint32_t sums[kCrc32cLanes]) {
  Striped<false>(nullptr, from, words, sums);
}

void Crc32cStripedCopy(uint8_t* to, const uint8_t* from, size_t words,
                       uint32_t sums[kCrc32cLanes]) {
  Striped<true>(to, from, words, sums);
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
