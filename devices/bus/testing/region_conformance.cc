// Accesses of any width at any place, again, across a reset and across
// restarts.
#include "devices/bus/testing/region_conformance.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "devices/bus/access_keeper.h"

namespace holdfast::testing {
namespace {

constexpr size_t kWidths[] = {1, 2, 4, 8};

absl::Span<const uint8_t> BytesOf(const uint64_t& value, size_t size) {
  return {reinterpret_cast<const uint8_t*>(&value), size};
}

// A guest's mistake at worst: never the state's.
bool MayBe(const absl::Status& status) {
  return status.ok() || absl::IsInvalidArgument(status);
}

std::string Place(const char* what, uint32_t region, uint64_t offset,
                  size_t size) {
  return absl::StrCat(what, " of ", size, " bytes at ", absl::Hex(offset),
                      " of region ", region);
}

// ---- Outside ----

void ExpectRefused(RegionProber& prober, uint32_t region, uint64_t offset,
                   size_t size, absl::StatusCode code) {
  const std::vector<uint8_t> was = prober.Fields();
  std::vector<uint8_t> bytes(size, 0xff);
  const absl::Status read = prober.Read(region, offset, absl::MakeSpan(bytes));
  prober.Expect(read.code() == code, Place("a read", region, offset, size),
                " is answered ", read.ToString());
  const absl::Status write = prober.Write(region, offset, bytes);
  prober.Expect(write.code() == code, Place("a write", region, offset, size),
                " is answered ", write.ToString());
  const std::string changed = prober.CompareFieldsWith(was);
  prober.Expect(changed.empty(), "an access outside changed ", changed);
}

// ---- Widths ----

void ReadTwice(RegionProber& prober, const Register& reg, uint32_t region,
               uint64_t offset, size_t size) {
  uint8_t first[8] = {};
  uint8_t again[8] = {};
  const absl::Status status = prober.Read(region, offset, {first, size});
  const std::vector<uint8_t> after = prober.Fields();
  const absl::Status repeated = prober.ReadAgain(region, offset, {again, size});
  const std::string place = Place("a read", region, offset, size);
  prober.Expect(MayBe(status), place, " is answered ", status.ToString());
  prober.Expect(status.code() == repeated.code(), place,
                " that comes again is answered ", repeated.ToString());
  prober.Expect(!status.ok() || std::memcmp(first, again, size) == 0, place,
                " that comes again has another answer");
  const std::string changed = prober.CompareFieldsWith(after);
  prober.Expect(changed.empty(), place, " that comes again changes ", changed);
  if (!reg.constant() || !status.ok() || offset != reg.offset() ||
      size < reg.width()) {
    return;
  }
  uint64_t value = 0;
  std::memcpy(&value, first, reg.width());
  prober.Expect(value == reg.reset(), place, " of a constant is ", value);
}

void WriteTwice(RegionProber& prober, uint32_t region, uint64_t offset,
                size_t size, uint64_t value) {
  const absl::Status status =
      prober.Write(region, offset, BytesOf(value, size));
  const std::vector<uint8_t> after = prober.Fields();
  const absl::Status repeated =
      prober.WriteAgain(region, offset, BytesOf(value, size));
  const std::string place = Place("a write", region, offset, size);
  prober.Expect(MayBe(status), place, " is answered ", status.ToString());
  prober.Expect(status.code() == repeated.code(), place,
                " that comes again is answered ", repeated.ToString());
  const std::string changed = prober.CompareFieldsWith(after);
  prober.Expect(changed.empty(), place, " that comes again changes ", changed);
}

// All widths at all places that touch the element or its neighbours.
void ProbeElement(RegionProber& prober, const Register& reg, uint32_t region,
                  uint64_t at) {
  const uint64_t from = at < 4 ? 0 : at - 4;
  for (uint64_t offset = from; offset < at + reg.width(); ++offset) {
    for (const size_t size : kWidths) {
      if (offset + size <= at) continue;
      if (offset + size > prober.RegionSize(region)) continue;
      ReadTwice(prober, reg, region, offset, size);
      for (const uint64_t value : {~uint64_t{0}, uint64_t{0x5a5a0001}}) {
        WriteTwice(prober, region, offset, size, value);
      }
      ReadTwice(prober, reg, region, offset, size);
    }
  }
}

// ---- Reset ----

// Everything that a guest reads of registers, in order.
std::vector<uint64_t> ReadAll(RegionProber& prober) {
  std::vector<uint64_t> all;
  for (uint32_t region = 0; region < prober.regions(); ++region) {
    for (const Register& reg : prober.RegistersOf(region)) {
      for (uint32_t i = 0; i < reg.count(); ++i) {
        uint64_t value = 0;
        const absl::Status status =
            prober.Read(region, reg.offset() + i * reg.stride(),
                        {reinterpret_cast<uint8_t*>(&value), reg.width()});
        all.push_back(status.ok() ? value : ~uint64_t{0});
      }
    }
  }
  return all;
}

void Scribble(RegionProber& prober, uint64_t value) {
  for (uint32_t region = 0; region < prober.regions(); ++region) {
    for (const Register& reg : prober.RegistersOf(region)) {
      if (prober.Resets(reg)) continue;
      for (uint32_t i = 0; i < reg.count(); ++i) {
        (void)prober.Write(region, reg.offset() + i * reg.stride(),
                           BytesOf(value, reg.width()));
      }
    }
  }
}

void ExpectNew(RegionProber& prober, absl::Span<const uint8_t> fields,
               const std::vector<uint64_t>& values, const char* how) {
  std::set<std::string> own;
  for (const Field& field : prober.schema().fields) {
    if (!prober.IsGuests(field.name)) own.insert(field.name);
  }
  const std::string changed = prober.CompareFieldsWith(fields, own);
  prober.Expect(changed.empty(), how, " leaves ", changed);
  prober.Expect(ReadAll(prober) == values, how,
                " leaves a device that reads as no new one does");
}

// ---- Restarts ----

struct Access {
  uint32_t region;
  uint64_t offset;
  size_t size;
  bool write;
  uint64_t value;
};

std::vector<Access> RandomAccesses(RegionProber& prober, size_t count) {
  std::mt19937_64 random(20);  // The same every time.
  std::vector<std::pair<uint32_t, Register>> registers;
  for (uint32_t region = 0; region < prober.regions(); ++region) {
    for (const Register& reg : prober.RegistersOf(region)) {
      registers.emplace_back(region, reg);
    }
  }
  std::vector<Access> accesses;
  while (accesses.size() < count) {
    const auto& [region, reg] = registers[random() % registers.size()];
    const uint64_t size =
        random() % 4 == 0 ? kWidths[random() % 4] : reg.width();
    const uint64_t at = reg.offset() + random() % reg.count() * reg.stride();
    if (at + size > prober.RegionSize(region)) continue;
    const uint64_t value = random();
    accesses.push_back({region, at, size, random() % 2 == 0,
                        random() % 2 == 0 ? value % 8 : value});
  }
  return accesses;
}

// The answer; ones if it fails.
uint64_t Make(RegionProber& prober, const Access& access,
              absl::Status* status) {
  uint64_t value = access.value;
  if (access.write) {
    *status =
        prober.Write(access.region, access.offset, BytesOf(value, access.size));
    return 0;
  }
  value = 0;
  *status = prober.Read(access.region, access.offset,
                        {reinterpret_cast<uint8_t*>(&value), access.size});
  return status->ok() ? value : ~uint64_t{0};
}

}  // namespace

void ProbeOutside(RegionProber& prober) {
  constexpr auto kOut = absl::StatusCode::kOutOfRange;
  for (const uint32_t region : {0u, 1u, 2u, 3u, 4u, 5u, 6u, 7u, 8u, 9u, ~0u}) {
    const uint64_t size = prober.RegionSize(region);
    for (const size_t width : {1, 3, 4, 8, 64}) {
      ExpectRefused(prober, region, size, width, kOut);
      ExpectRefused(prober, region, size - 1, width + 1, kOut);
      ExpectRefused(prober, region, ~uint64_t{0}, width, kOut);
      ExpectRefused(prober, region, ~uint64_t{0} - width + 1, width, kOut);
    }
    if (!prober.TakesMore(region) && size > access::kMaxSize) {
      ExpectRefused(prober, region, 0, access::kMaxSize + 1,
                    absl::StatusCode::kInvalidArgument);
    }
  }
}

void ProbeWidths(RegionProber& prober) {
  for (uint32_t region = 0; region < prober.regions(); ++region) {
    for (const Register& reg : prober.RegistersOf(region)) {
      ProbeElement(prober, reg, region, reg.offset());
      if (reg.count() == 1) continue;
      ProbeElement(prober, reg, region,
                   reg.offset() + (reg.count() - 1) * reg.stride());
    }
  }
}

void ProbeReset(RegionProber& prober, const std::vector<ResetWay>& others) {
  std::vector<ResetWay> ways = {
      {"a reset", [&] { return prober.guest().device().Reset(); }}};
  ways.insert(ways.end(), others.begin(), others.end());
  const std::vector<uint8_t> fields = prober.Fields();
  const std::vector<uint64_t> values = ReadAll(prober);
  for (const uint64_t value : {~uint64_t{0}, uint64_t{0x5a5a5a5a5a5a5a5a}}) {
    for (const ResetWay& way : ways) {
      Scribble(prober, value);
      // Again: it is idempotent.
      for (int i = 0; i < 2; ++i) {
        const absl::Status reset = way.reset();
        prober.Expect(reset.ok(), way.name, " fails: ", reset.ToString());
        ExpectNew(prober, fields, values, way.name);
      }
    }
  }
}

void ProbeRestarts(RegionProber& calm, RegionProber& shaken) {
  constexpr size_t kAccesses = 400;
  size_t number = 0;
  for (const Access& access : RandomAccesses(calm, kAccesses)) {
    shaken.guest().Restart();
    absl::Status want_status;
    absl::Status got_status;
    const uint64_t want = Make(calm, access, &want_status);
    const uint64_t got = Make(shaken, access, &got_status);
    const std::string place =
        absl::StrCat("access ", number++, ", ",
                     Place(access.write ? "a write" : "a read", access.region,
                           access.offset, access.size));
    shaken.Expect(want_status.code() == got_status.code() && want == got, place,
                  ": a successor answers ", got, " (", got_status.ToString(),
                  ") instead of ", want, " (", want_status.ToString(), ")");
    const std::string changed = shaken.CompareFieldsWith(calm.Fields());
    shaken.Expect(changed.empty(), place, ": a successor has ", changed);
  }
  shaken.Expect(shaken.guest().ram() == calm.guest().ram(),
                "guest memory differs after restarts");
}

}  // namespace holdfast::testing
