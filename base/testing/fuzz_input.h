#ifndef HOLDFAST_BASE_TESTING_FUZZ_INPUT_H_
#define HOLDFAST_BASE_TESTING_FUZZ_INPUT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace holdfast::testing {

// What a fuzzer claims: an input that breaks it is a find.
inline void Require(bool holds) {
  if (!holds) std::abort();
}

// Deals out the bytes of a fuzzer's input as values. Little-endian; missing
// bytes are 0, so that every input is a program and a cut one a shorter one.
class FuzzInput {
 public:
  FuzzInput(const uint8_t* data, size_t size) : data_(data), left_(size) {}

  bool empty() const { return left_ == 0; }

  template <typename T>
  T Take() {
    T value = {};
    const size_t size = std::min(sizeof(T), left_);
    if (size != 0) std::memcpy(&value, data_, size);
    data_ += size;
    left_ -= size;
    return value;
  }

 private:
  const uint8_t* data_;
  size_t left_;
};

}  // namespace holdfast::testing

#endif  // HOLDFAST_BASE_TESTING_FUZZ_INPUT_H_
