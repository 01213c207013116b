#ifndef HOLDFAST_STATESTORE_STORE_TESTING_FINGERPRINT_SET_H_
#define HOLDFAST_STATESTORE_STORE_TESTING_FINGERPRINT_SET_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace holdfast::store::testing {

// A set of strings of which only 128 bits each are kept, 64 bytes an element at
// most. Of a thousand million elements two are taken for one with a probability
// of 1e-21: a search that misses a state so does not matter.
class FingerprintSet {
 public:
  // False: it was there.
  bool Insert(const std::string& text) {
    if (2 * (size_ + 1) > table_.size()) Grow();
    if (!Place(
            {Mix(text, 0x9e3779b97f4a7c15), Mix(text, 0xc2b2ae3d27d4eb4f)})) {
      return false;
    }
    ++size_;
    return true;
  }
  size_t size() const { return size_; }

 private:
  using Fingerprint = std::pair<uint64_t, uint64_t>;  // {0, 0}: free.

  static uint64_t Mix(const std::string& text, uint64_t seed) {
    uint64_t hash = seed ^ text.size();
    for (unsigned char c : text) {
      hash = (hash ^ c) * 0xff51afd7ed558ccd;
      hash ^= hash >> 29;
    }
    hash *= 0xc4ceb9fe1a85ec53;
    return (hash ^ hash >> 32) | 1;
  }

  bool Place(Fingerprint element) {
    const size_t mask = table_.size() - 1;
    size_t at = element.first >> 1 & mask;
    while (table_[at].first != 0) {
      if (table_[at] == element) return false;
      at = (at + 1) & mask;
    }
    table_[at] = element;
    return true;
  }

  void Grow() {
    std::vector<Fingerprint> old(table_.empty() ? 1024 : 2 * table_.size());
    old.swap(table_);
    for (const Fingerprint& element : old) {
      if (element.first != 0) Place(element);
    }
  }

  std::vector<Fingerprint> table_;  // A power of two, half full at most.
  size_t size_ = 0;
};

}  // namespace holdfast::store::testing

#endif  // HOLDFAST_STATESTORE_STORE_TESTING_FINGERPRINT_SET_H_
