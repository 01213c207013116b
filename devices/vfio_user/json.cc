#include "devices/vfio_user/json.h"

#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "base/status_macros.h"

namespace holdfast::vfio_user {
namespace {

bool IsDigit(char c) { return c >= '0' && c <= '9'; }

int HexDigit(char c) {
  if (IsDigit(c)) return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// Length of the well-formed UTF-8 sequence that `text` begins with; 0: none.
size_t Utf8Length(absl::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<uint8_t>(text[i]); };
  const uint8_t lead = byte(0);
  if (lead < 0x80) return 1;
  const size_t length = lead < 0xc2   ? 0
                        : lead < 0xe0 ? 2
                        : lead < 0xf0 ? 3
                        : lead < 0xf5 ? 4
                                      : 0;
  if (length == 0 || text.size() < length) return 0;
  for (size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  // Overlong forms, surrogates, beyond U+10FFFF.
  if (lead == 0xe0 && byte(1) < 0xa0) return 0;
  if (lead == 0xed && byte(1) >= 0xa0) return 0;
  if (lead == 0xf0 && byte(1) < 0x90) return 0;
  if (lead == 0xf4 && byte(1) >= 0x90) return 0;
  return length;
}

void AppendUtf8(uint32_t code, std::string& out) {
  if (code < 0x80) {
    out += static_cast<char>(code);
  } else if (code < 0x800) {
    out += static_cast<char>(0xc0 | code >> 6);
    out += static_cast<char>(0x80 | (code & 0x3f));
  } else if (code < 0x10000) {
    out += static_cast<char>(0xe0 | code >> 12);
    out += static_cast<char>(0x80 | (code >> 6 & 0x3f));
    out += static_cast<char>(0x80 | (code & 0x3f));
  } else {
    out += static_cast<char>(0xf0 | code >> 18);
    out += static_cast<char>(0x80 | (code >> 12 & 0x3f));
    out += static_cast<char>(0x80 | (code >> 6 & 0x3f));
    out += static_cast<char>(0x80 | (code & 0x3f));
  }
}

class Reader {
 public:
  Reader(absl::string_view text, const JsonVisitor& visit)
      : text_(text), visit_(visit) {}

  absl::Status ReadDocument() {
    if (text_.size() > kMaxJsonSize) {
      return absl::InvalidArgumentError(
          absl::StrCat("JSON of ", text_.size(), " bytes, at most ",
                       kMaxJsonSize, " are read"));
    }
    RETURN_IF_ERROR(ReadValue());
    SkipSpace();
    return at_ == text_.size() ? absl::OkStatus() : Wrong("the end");
  }

 private:
  absl::Status Wrong(absl::string_view wanted) const {
    return absl::InvalidArgumentError(
        absl::StrCat("JSON: ", wanted, " is missing at byte ", at_));
  }

  bool Take(char c) {
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  bool TakeWord(absl::string_view word) {
    if (text_.substr(at_, word.size()) != word) return false;
    at_ += word.size();
    return true;
  }

  void SkipSpace() {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' ||
                                  text_[at_] == '\n' || text_[at_] == '\r')) {
      ++at_;
    }
  }

  absl::Status Visit(const JsonValue& value) { return visit_(path_, value); }

  absl::Status ReadValue() {
    SkipSpace();
    JsonValue value;
    if (Take('{')) return ReadContainer(JsonValue::Kind::kObject, '}');
    if (Take('[')) return ReadContainer(JsonValue::Kind::kArray, ']');
    if (Take('"')) {
      std::string ignored;
      RETURN_IF_ERROR(ReadString(ignored));
      value.kind = JsonValue::Kind::kString;
      return Visit(value);
    }
    if (TakeWord("null")) return Visit(value);
    value.kind = JsonValue::Kind::kBool;
    if (TakeWord("false")) return Visit(value);
    value.boolean = true;
    if (TakeWord("true")) return Visit(value);
    return ReadNumber();
  }

  absl::Status ReadContainer(JsonValue::Kind kind, char end) {
    JsonValue container;
    container.kind = kind;
    RETURN_IF_ERROR(Visit(container));
    if (path_.size() == kMaxJsonDepth) {
      return absl::InvalidArgumentError(
          absl::StrCat("JSON: deeper than ", kMaxJsonDepth, " at byte ", at_));
    }
    SkipSpace();
    if (Take(end)) return absl::OkStatus();
    do {
      path_.emplace_back();
      if (kind == JsonValue::Kind::kObject) RETURN_IF_ERROR(ReadName());
      RETURN_IF_ERROR(ReadValue());
      path_.pop_back();
      SkipSpace();
    } while (Take(','));
    return Take(end) ? absl::OkStatus() : Wrong("a comma or an end");
  }

  absl::Status ReadName() {
    SkipSpace();
    if (!Take('"')) return Wrong("a member's name");
    RETURN_IF_ERROR(ReadString(path_.back()));
    SkipSpace();
    return Take(':') ? absl::OkStatus() : Wrong("a colon");
  }

  // From behind the opening quote to behind the closing one.
  absl::Status ReadString(std::string& out) {
    while (at_ < text_.size()) {
      if (Take('"')) return absl::OkStatus();
      if (Take('\\')) {
        RETURN_IF_ERROR(ReadEscape(out));
        continue;
      }
      if (static_cast<uint8_t>(text_[at_]) < 0x20) {
        return Wrong("a printable character");
      }
      const size_t length = Utf8Length(text_.substr(at_));
      if (length == 0) return Wrong("UTF-8");
      out.append(text_.data() + at_, length);
      at_ += length;
    }
    return Wrong("a closing quote");
  }

  absl::Status ReadEscape(std::string& out) {
    constexpr absl::string_view kNames = "\"\\/bfnrt";
    constexpr absl::string_view kMeanings = "\"\\/\b\f\n\r\t";
    if (Take('u')) return ReadCodeUnits(out);
    if (at_ == text_.size()) return Wrong("an escape");
    const size_t which = kNames.find(text_[at_]);
    if (which == absl::string_view::npos) return Wrong("an escape");
    out += kMeanings[which];
    ++at_;
    return absl::OkStatus();
  }

  absl::Status ReadCodeUnits(std::string& out) {
    uint32_t code = 0;
    RETURN_IF_ERROR(ReadCodeUnit(code));
    if (code >= 0xd800 && code < 0xdc00) {
      uint32_t low = 0;
      if (!TakeWord("\\u")) return Wrong("a low surrogate");
      RETURN_IF_ERROR(ReadCodeUnit(low));
      if (low < 0xdc00 || low >= 0xe000) return Wrong("a low surrogate");
      code = 0x10000 + ((code - 0xd800) << 10 | (low - 0xdc00));
    } else if (code >= 0xdc00 && code < 0xe000) {
      return Wrong("a high surrogate");
    }
    AppendUtf8(code, out);
    return absl::OkStatus();
  }

  absl::Status ReadCodeUnit(uint32_t& code) {
    for (int i = 0; i < 4; ++i) {
      const int digit = at_ < text_.size() ? HexDigit(text_[at_]) : -1;
      if (digit < 0) return Wrong("a hexadecimal digit");
      code = code << 4 | static_cast<uint32_t>(digit);
      ++at_;
    }
    return absl::OkStatus();
  }

  bool TakeDigits() {
    const size_t before = at_;
    while (at_ < text_.size() && IsDigit(text_[at_])) ++at_;
    return at_ != before;
  }

  absl::Status ReadNumber() {
    JsonValue value;
    value.kind = JsonValue::Kind::kNumber;
    const size_t begin = at_;
    bool whole = !Take('-');
    if (!Take('0') && !TakeDigits()) return Wrong("a value");
    if (Take('.')) {
      whole = false;
      if (!TakeDigits()) return Wrong("a digit");
    }
    if (Take('e') || Take('E')) {
      whole = false;
      if (!Take('+')) Take('-');
      if (!TakeDigits()) return Wrong("a digit");
    }
    value.is_unsigned =
        whole &&
        absl::SimpleAtoi(text_.substr(begin, at_ - begin), &value.number);
    if (!value.is_unsigned) value.number = 0;
    return Visit(value);
  }

  const absl::string_view text_;
  const JsonVisitor& visit_;
  size_t at_ = 0;
  std::vector<std::string> path_;  // At most kMaxJsonDepth.
};

}  // namespace

absl::Status ReadJson(absl::string_view text, const JsonVisitor& visit) {
  return Reader(text, visit).ReadDocument();
}

}  // namespace holdfast::vfio_user
