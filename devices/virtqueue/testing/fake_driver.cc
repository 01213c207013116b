#include "devices/virtqueue/testing/fake_driver.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "base/shared_access.h"

namespace holdfast::testing {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kAlignment = 16;

size_t RoundUp(size_t n, size_t to) { return (n + to - 1) / to * to; }

// Whoever reads a table by pieces may look at what is not its own yet.
void StoreShared(const vring::Descriptor& from, vring::Descriptor* to) {
  uint64_t words[sizeof(from) / sizeof(uint64_t)];
  std::memcpy(words, &from, sizeof(from));
  auto* const at = reinterpret_cast<uint64_t*>(to);
  for (size_t i = 0; i < sizeof(from) / sizeof(uint64_t); ++i) {
    SharedAccess::Store(&at[i], words[i]);
  }
}

}  // namespace

FakeDriver::FakeDriver(const Options& options)
    : FakeDriver(options, absl::Span<uint8_t>()) {}

FakeDriver::FakeDriver(const Options& options, absl::Span<uint8_t> memory)
    : options_(options),
      next_available_(options.first_index),
      kicked_(options.first_index),
      next_used_(options.first_index) {
  bytes_ = memory;
  if (memory.empty()) {
    own_memory_.resize((options.memory_size + kPage) / sizeof(uint64_t));
    uint8_t* start = reinterpret_cast<uint8_t*>(own_memory_.data());
    start += RoundUp(reinterpret_cast<uintptr_t>(start), kPage) -
             reinterpret_cast<uintptr_t>(start);
    bytes_ = {start, options.memory_size};
  }
  available_at_ = RoundUp(vring::DescriptorBytes(options.size), kPage);
  used_at_ =
      available_at_ + RoundUp(vring::AvailableBytes(options.size, true), kPage);
  const size_t heap =
      used_at_ + RoundUp(vring::UsedBytes(options.size, true), kPage);
  free_[heap] = bytes_.size() - heap;
  guest_memory_ = *GuestMemory::Create({region()});
  for (int i = options.size; i-- > 0;) free_descriptors_.push_back(i);
  Available()->idx = next_available_;
  used().idx = next_used_;
  EnableInterrupts();
}

SplitRingConfig FakeDriver::config() const {
  SplitRingConfig config;
  config.size = options_.size;
  config.descriptors = bytes_.data();
  config.available = bytes_.data() + available_at_;
  config.used = bytes_.data() + used_at_;
  config.event_idx = options_.event_idx;
  config.indirect = options_.indirect;
  return config;
}

GuestRegion FakeDriver::region() const {
  return {GuestAddress{options_.guest_address}, bytes_.size(),
          UserAddress{options_.user_address}, bytes_.data()};
}

UserAddress FakeDriver::ToUser(const void* at) const {
  return UserAddress{options_.user_address +
                     (static_cast<const uint8_t*>(at) - bytes_.data())};
}

GuestAddress FakeDriver::ToGuest(const void* at) const {
  return GuestAddress{options_.guest_address +
                      (static_cast<const uint8_t*>(at) - bytes_.data())};
}

vring::Descriptor& FakeDriver::descriptor(uint16_t i) {
  return reinterpret_cast<vring::Descriptor*>(bytes_.data())[i];
}

vring::Available* FakeDriver::Available() {
  return reinterpret_cast<vring::Available*>(bytes_.data() + available_at_);
}

uint16_t& FakeDriver::avail_ring(uint16_t i) {
  return reinterpret_cast<uint16_t*>(Available() + 1)[i];
}

vring::Used& FakeDriver::used() {
  return *reinterpret_cast<vring::Used*>(bytes_.data() + used_at_);
}

vring::UsedElement& FakeDriver::used_ring(uint16_t i) {
  return reinterpret_cast<vring::UsedElement*>(&used() + 1)[i];
}

uint16_t& FakeDriver::avail_event() {
  return *reinterpret_cast<uint16_t*>(&used_ring(options_.size));
}

uint8_t* FakeDriver::Allocate(size_t size) {
  size = RoundUp(std::max<size_t>(size, 1), kAlignment);
  for (auto it = free_.begin(); it != free_.end(); ++it) {
    if (it->second < size) continue;
    const auto [offset, available] = *it;
    free_.erase(it);
    if (available > size) free_[offset + size] = available - size;
    allocated_[offset] = size;
    return bytes_.data() + offset;
  }
  return nullptr;
}

void FakeDriver::Free(uint8_t* at) {
  const size_t offset = at - bytes_.data();
  auto it = free_.emplace(offset, allocated_[offset]).first;
  allocated_.erase(offset);
  const auto next = std::next(it);
  if (next != free_.end() && it->first + it->second == next->first) {
    it->second += next->second;
    free_.erase(next);
  }
  if (it == free_.begin()) return;
  const auto before = std::prev(it);
  if (before->first + before->second == it->first) {
    before->second += it->second;
    free_.erase(it);
  }
}

// Copies the buffers into guest memory and describes them.
bool FakeDriver::Build(absl::Span<const Buffer> buffers, Request& request,
                       std::vector<vring::Descriptor>& chain) {
  for (const Buffer& buffer : buffers) {
    const bool writable = buffer.writable_size != 0;
    const size_t size = writable ? buffer.writable_size : buffer.data.size();
    uint8_t* at = Allocate(size);
    if (at == nullptr) return false;
    request.allocations.push_back(at);
    if (writable) {
      request.writable.push_back({at, size});
      request.writable_size += size;
      std::memset(at, 0, size);
    } else {
      std::copy(buffer.data.begin(), buffer.data.end(), at);
    }
    chain.push_back({ToInt(ToGuest(at)), static_cast<uint32_t>(size),
                     writable ? vring::kWrite : uint16_t{0}, 0});
  }
  return true;
}

// Puts the chain into the ring or into an indirect table of its own.
bool FakeDriver::Place(const std::vector<vring::Descriptor>& chain,
                       Request& request) {
  std::vector<vring::Descriptor> in_ring = chain;
  if (options_.indirect) {
    std::vector<vring::Descriptor> table = chain;
    for (size_t i = 0; i + 1 < table.size(); ++i) {
      table[i].flags |= vring::kNext;
      table[i].next = i + 1;
    }
    const size_t size = table.size() * sizeof(vring::Descriptor);
    uint8_t* at = Allocate(size);
    if (at == nullptr) return false;
    request.allocations.push_back(at);
    std::memcpy(at, table.data(), size);
    in_ring = {
        {ToInt(ToGuest(at)), static_cast<uint32_t>(size), vring::kIndirect, 0}};
  }
  if (free_descriptors_.size() < in_ring.size()) return false;
  for (size_t i = 0; i < in_ring.size(); ++i) {
    request.descriptors.push_back(free_descriptors_.back());
    free_descriptors_.pop_back();
  }
  for (size_t i = 0; i < in_ring.size(); ++i) {
    if (i + 1 < in_ring.size()) {
      in_ring[i].flags |= vring::kNext;
      in_ring[i].next = request.descriptors[i + 1];
    }
    StoreShared(in_ring[i], &descriptor(request.descriptors[i]));
  }
  return true;
}

absl::optional<uint64_t> FakeDriver::Post(absl::Span<const Buffer> buffers) {
  Request request;
  std::vector<vring::Descriptor> chain;
  if (buffers.empty() || !Build(buffers, request, chain) ||
      !Place(chain, request)) {
    Release(request);
    return absl::nullopt;
  }
  request.number = ++last_request_;
  const uint16_t head = request.descriptors[0];
  requests_[head] = std::move(request);
  SharedAccess::Store(&avail_ring(next_available_ % options_.size), head);
  SharedAccess::StoreRelease(&Available()->idx, ++next_available_);
  return last_request_;
}

bool FakeDriver::NeedsKick() {
  SharedAccess::Fence();
  const uint16_t before = kicked_;
  kicked_ = next_available_;
  if (before == kicked_) return false;
  if (options_.event_idx) {
    return vring::NeedsEvent(SharedAccess::Load(&avail_event()), kicked_,
                             before);
  }
  return (SharedAccess::Load(&used().flags) & vring::kNoNotify) == 0;
}

void FakeDriver::Release(Request& request) {
  for (uint8_t* at : request.allocations) Free(at);
  for (size_t i = request.descriptors.size(); i-- > 0;) {
    free_descriptors_.push_back(request.descriptors[i]);
  }
}

FakeDriver::Answer FakeDriver::Finish(Request& request, uint32_t written) {
  Answer answer{request.number, written, {}};
  for (absl::Span<uint8_t> piece : request.writable) {
    answer.data.insert(answer.data.end(), piece.begin(), piece.end());
  }
  if (written > request.writable_size) {
    Violation(absl::StrCat("request ", request.number, ": ", written,
                           " bytes written of ", request.writable_size));
  }
  Release(request);
  return answer;
}

void FakeDriver::CollectInto(std::vector<Answer>& answers) {
  const uint16_t end = SharedAccess::LoadAcquire(&used().idx);
  const uint16_t count = end - next_used_;
  if (count > requests_.size()) {
    Violation(absl::StrCat("used index ", end, " after ", next_used_, " with ",
                           requests_.size(), " requests outstanding"));
    next_used_ = end;
    return;
  }
  for (; next_used_ != end; ++next_used_) {
    const vring::UsedElement& element = used_ring(next_used_ % options_.size);
    const auto it = element.id < options_.size
                        ? requests_.find(static_cast<uint16_t>(element.id))
                        : requests_.end();
    if (it == requests_.end()) {
      Violation(absl::StrCat("answer for head ", element.id,
                             ", which is not outstanding"));
      continue;
    }
    answers.push_back(Finish(it->second, element.size));
    requests_.erase(it);
  }
}

std::vector<FakeDriver::Answer> FakeDriver::Collect() {
  std::vector<Answer> answers;
  do {
    CollectInto(answers);
  } while (interrupts_ && EnableInterrupts());
  return answers;
}

bool FakeDriver::EnableInterrupts() {
  interrupts_ = true;
  if (options_.event_idx) {
    SharedAccess::Store(&used_event(), next_used_);
  } else {
    SharedAccess::Store(&Available()->flags, uint16_t{0});
  }
  SharedAccess::Fence();
  return SharedAccess::LoadAcquire(&used().idx) != next_used_;
}

void FakeDriver::DisableInterrupts() {
  interrupts_ = false;
  if (options_.event_idx) {
    // As far away as an index gets.
    SharedAccess::Store(&used_event(), static_cast<uint16_t>(next_used_ - 1));
  } else {
    SharedAccess::Store(&Available()->flags, vring::kNoInterrupt);
  }
}

}  // namespace holdfast::testing
