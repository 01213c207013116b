// Runs a fuzz target without libFuzzer: replays every corpus file named on the
// command line, then a fixed number of seeded mutations of each and of random
// inputs, so that the target runs in every test run and with every compiler.
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

constexpr int kMutationsPerInput = 2000;
constexpr size_t kMaxRandomInput = 4096;

void Mutate(std::vector<uint8_t>& bytes, std::mt19937& random) {
  const int edits = 1 + random() % 4;
  for (int i = 0; i < edits; ++i) {
    const size_t at = bytes.empty() ? 0 : random() % bytes.size();
    switch (random() % 5) {
      case 0:
        if (!bytes.empty()) bytes[at] = random();
        break;
      case 1:
        if (!bytes.empty()) bytes[at] ^= 1u << (random() % 8);
        break;
      case 2:
        bytes.resize(at);
        break;
      case 3:
        bytes.insert(bytes.begin() + at, random() % 16, random());
        break;
      default:
        if (!bytes.empty()) bytes[at] = (random() % 2) != 0 ? 0xff : 0;
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  std::mt19937 random(20221122);
  std::vector<std::vector<uint8_t>> inputs(1);
  for (int i = 1; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    if (!file) {
      std::fprintf(stderr, "cannot read corpus file %s\n", argv[i]);
      return 1;
    }
    inputs.emplace_back(std::istreambuf_iterator<char>(file),
                        std::istreambuf_iterator<char>());
  }
  for (int i = 0; i < 8; ++i) {
    std::vector<uint8_t> bytes(random() % kMaxRandomInput);
    for (uint8_t& b : bytes) b = random();
    inputs.push_back(bytes);
  }
  size_t runs = 0;
  for (const std::vector<uint8_t>& input : inputs) {
    LLVMFuzzerTestOneInput(input.data(), input.size());
    for (int i = 0; i < kMutationsPerInput; ++i, ++runs) {
      std::vector<uint8_t> mutated = input;
      Mutate(mutated, random);
      LLVMFuzzerTestOneInput(mutated.data(), mutated.size());
    }
  }
  std::printf("%zu inputs, %zu runs\n", inputs.size(), runs);
  return 0;
}
