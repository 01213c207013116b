#include "statestore/dump.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace holdfast {
namespace {

// One thing that a segment says: a field, or a fact of the frame around them.
struct Item {
  std::string name;
  std::string type;
  std::string text;  // For people.
  std::string json;
  std::vector<std::string> elements;  // Of an array or of bytes.
};

// More elements than these are not read by anybody.
constexpr size_t kMostElements = 32;

// Characters that JSON does not take as they are. Everything else in a dump is
// printable ASCII by the rules of the format or escaped by its maker.
std::string Quoted(absl::string_view text) {
  std::string out = "\"";
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      absl::StrAppend(&out, "\\", std::string(1, c));
    } else if (byte < 0x20 || byte >= 0x7f) {
      absl::StrAppendFormat(&out, "\\u%04x", byte);
    } else {
      out += c;
    }
  }
  return out + "\"";
}

template <typename T>
T Load(const uint8_t* p) {
  T value;
  std::memcpy(&value, p, sizeof(value));
  return value;
}

std::string RealJson(double value) {
  const std::string text = absl::StrFormat("%.17g", value);
  return std::isfinite(value) ? text : Quoted(text);
}

// One element as JSON, which is also how people read it.
std::string Element(FieldType::Kind kind, const uint8_t* p) {
  using Kind = FieldType::Kind;
  switch (kind) {
    case Kind::kU8:
      return absl::StrCat(Load<uint8_t>(p));
    case Kind::kU16:
      return absl::StrCat(Load<uint16_t>(p));
    case Kind::kU32:
      return absl::StrCat(Load<uint32_t>(p));
    case Kind::kU64:
      return absl::StrCat(Load<uint64_t>(p));
    case Kind::kI8:
      return absl::StrCat(Load<int8_t>(p));
    case Kind::kI16:
      return absl::StrCat(Load<int16_t>(p));
    case Kind::kI32:
      return absl::StrCat(Load<int32_t>(p));
    case Kind::kI64:
      return absl::StrCat(Load<int64_t>(p));
    case Kind::kBool:
      return *p != 0 ? "true" : "false";
    case Kind::kF32:
      return RealJson(Load<float>(p));
    case Kind::kF64:
      return RealJson(Load<double>(p));
    case Kind::kBytes:
      break;
  }
  return "null";
}

bool IsBytes(const Item& item) { return absl::StartsWith(item.type, "bytes"); }

// Elements `first` to before `end`, cut to what a person reads.
std::string Elements(const Item& item, size_t first, size_t end) {
  const size_t shown = std::min(end, first + kMostElements);
  const auto begin = item.elements.begin();
  return absl::StrCat(
      absl::StrJoin(begin + first, begin + shown, IsBytes(item) ? "" : ", "),
      shown == end ? "" : "...");
}

Item ItemOf(const Field& field, const std::vector<uint8_t>& fields) {
  Item item = {field.name, field.type.ToString(), "", "", {}};
  // The schema was validated against its own size, and fields has that size.
  const uint8_t* p = fields.data() + field.offset;
  if (field.type.kind == FieldType::Kind::kBytes) {
    const std::string hex = absl::BytesToHexString(
        {reinterpret_cast<const char*>(p), field.type.size()});
    for (size_t i = 0; i < hex.size(); i += 2) {
      item.elements.push_back(hex.substr(i, 2));
    }
    item.json = Quoted(hex);
    item.text = Quoted(Elements(item, 0, item.elements.size()));
    return item;
  }
  if (field.type.count == 1) {
    item.text = item.json = Element(field.type.kind, p);
    return item;
  }
  for (uint16_t i = 0; i < field.type.count; ++i) {
    item.elements.push_back(
        Element(field.type.kind, p + i * field.type.element_size()));
  }
  item.json = absl::StrCat("[", absl::StrJoin(item.elements, ", "), "]");
  item.text = absl::StrCat("[", Elements(item, 0, item.elements.size()), "]");
  return item;
}

// The completions and fields of the current bank. Empty without a state.
std::vector<Item> StateItems(const RecoveryReport& report) {
  std::vector<Item> items;
  if (!report.has_state) return items;
  const RecoveryReport::Bank& bank = report.current();
  for (size_t q = 0; q < bank.completions.size(); ++q) {
    const CompletionRecord& c = bank.completions[q];
    items.push_back({absl::StrCat("queue", q, "/completed"),
                     "record",
                     absl::StrCat("counter ", c.counter, ", head ", c.head,
                                  ", written ", c.written),
                     absl::StrCat("{\"counter\": ", c.counter, ", \"head\": ",
                                  c.head, ", \"written\": ", c.written, "}"),
                     {}});
  }
  for (const Field& field : report.layout.schema.fields) {
    items.push_back(ItemOf(field, bank.fields));
  }
  return items;
}

struct Change {
  std::string name;
  const Item* before;  // Null: absent.
  const Item* after;
};

const Item* FindItem(const std::vector<Item>& items, const std::string& name) {
  const auto it =
      std::find_if(items.begin(), items.end(),
                   [&name](const Item& item) { return item.name == name; });
  return it == items.end() ? nullptr : &*it;
}

std::vector<Change> Changes(const std::vector<Item>& before,
                            const std::vector<Item>& after) {
  std::vector<Change> changes;
  for (const Item& item : before) {
    const Item* other = FindItem(after, item.name);
    if (other == nullptr || other->type != item.type ||
        other->json != item.json) {
      changes.push_back({item.name, &item, other});
    }
  }
  for (const Item& item : after) {
    if (FindItem(before, item.name) == nullptr) {
      changes.push_back({item.name, nullptr, &item});
    }
  }
  return changes;
}

// The elements that differ, each run of them on a line.
std::string ElementChanges(const Item& before, const Item& after) {
  std::string text;
  const size_t count = before.elements.size();
  const auto differ = [&](size_t i) {
    return before.elements[i] != after.elements[i];
  };
  for (size_t i = 0; i < count; ++i) {
    if (!differ(i)) continue;
    size_t end = i + 1;
    while (end < count && differ(end)) ++end;
    absl::StrAppend(&text, before.name, "[", i);
    if (end > i + 1) absl::StrAppend(&text, "..", end - 1);
    absl::StrAppend(&text, "]: ", Elements(before, i, end), " -> ",
                    Elements(after, i, end), "\n");
    i = end;
  }
  return text;
}

std::string SideText(const Item* item, bool with_type) {
  if (item == nullptr) return "absent";
  return with_type ? absl::StrCat(item->text, " (", item->type, ")")
                   : item->text;
}

}  // namespace

std::string Dump(const RecoveryReport& report) {
  std::string text = report.ToString();
  if (report.has_layout) {
    const SegmentLayout& layout = report.layout;
    absl::StrAppend(&text, "compat version: ", layout.compat_version,
                    ", queues: ", layout.queue_count,
                    ", lanes: ", layout.lane_count, ", bytes: ", layout.size,
                    "\nschema: ", layout.schema.name, " version ",
                    layout.schema.version, "\n");
  }
  const std::vector<Item> items = StateItems(report);
  size_t name_width = 0;
  size_t type_width = 0;
  for (const Item& item : items) {
    name_width = std::max(name_width, item.name.size());
    type_width = std::max(type_width, item.type.size());
  }
  for (const Item& item : items) {
    absl::StrAppendFormat(&text, "  %-*s  %-*s  %s\n",
                          static_cast<int>(name_width), item.name,
                          static_cast<int>(type_width), item.type, item.text);
  }
  return text;
}

std::string DumpJson(const RecoveryReport& report) {
  std::vector<std::string> members;
  const auto add = [&members](absl::string_view name, absl::string_view json) {
    members.push_back(absl::StrCat("\"", name, "\": ", json));
  };
  using Verdict = RecoveryReport::Verdict;
  add("verdict", report.verdict == Verdict::kEmpty   ? "\"empty\""
                 : report.verdict == Verdict::kWhole ? "\"whole\""
                                                     : "\"damaged\"");
  std::vector<std::string> problems;
  for (const std::string& problem : report.problems) {
    problems.push_back(Quoted(problem));
  }
  add("problems", absl::StrCat("[", absl::StrJoin(problems, ", "), "]"));
  if (report.has_layout) {
    add("device", Quoted(report.layout.device));
    add("compat_version", absl::StrCat(report.layout.compat_version));
    add("epoch", absl::StrCat(report.epoch));
    add("size", absl::StrCat(report.layout.size));
    add("schema",
        absl::StrCat("{\"name\": ", Quoted(report.layout.schema.name),
                     ", \"version\": ", report.layout.schema.version, "}"));
  }
  if (report.has_state) {
    add("commits", absl::StrCat(report.current().sequence));
    add("undo_armed", report.undo_armed ? "true" : "false");
    std::vector<std::string> values;
    for (const Item& item : StateItems(report)) {
      values.push_back(absl::StrCat(Quoted(item.name), ": ", item.json));
    }
    add("state", absl::StrCat("{", absl::StrJoin(values, ", "), "}"));
  }
  return absl::StrCat("{", absl::StrJoin(members, ", "), "}");
}

std::string Diff(const RecoveryReport& before, const RecoveryReport& after) {
  const std::vector<Item> old_items = StateItems(before);
  const std::vector<Item> new_items = StateItems(after);
  std::string text;
  for (const Change& change : Changes(old_items, new_items)) {
    const bool types = change.before != nullptr && change.after != nullptr &&
                       change.before->type != change.after->type;
    if (change.before != nullptr && change.after != nullptr && !types &&
        !change.before->elements.empty()) {
      text += ElementChanges(*change.before, *change.after);
      continue;
    }
    absl::StrAppend(&text, change.name, ": ", SideText(change.before, types),
                    " -> ", SideText(change.after, types), "\n");
  }
  return text;
}

std::string DiffJson(const RecoveryReport& before,
                     const RecoveryReport& after) {
  const std::vector<Item> old_items = StateItems(before);
  const std::vector<Item> new_items = StateItems(after);
  std::vector<std::string> rows;
  for (const Change& change : Changes(old_items, new_items)) {
    const auto side = [](const Item* item) {
      return item == nullptr ? std::string("null") : item->json;
    };
    rows.push_back(absl::StrCat("{\"field\": ", Quoted(change.name),
                                ", \"before\": ", side(change.before),
                                ", \"after\": ", side(change.after), "}"));
  }
  return absl::StrCat("[", absl::StrJoin(rows, ", "), "]");
}

}  // namespace holdfast
