#ifndef HOLDFAST_STATESTORE_DUMP_H_
#define HOLDFAST_STATESTORE_DUMP_H_

// Segments as text, with nothing but what is stored in them: for the command
// line, the journal and failing tests. Pure; total on any report of Recover.

#include <string>

#include "statestore/recover.h"

namespace holdfast {

// Header, verdict, completions and every field of the current bank, one a line:
//   greetings  u64  3
// Of a long array or many bytes only the first.
std::string Dump(const RecoveryReport& report);

// The same as one JSON object. 64-bit numbers are JSON numbers; bytes are a
// string of hex digits; not-a-number and infinities are strings.
std::string DumpJson(const RecoveryReport& report);

// What differs, field by field, empty if nothing:
//   greetings: 3 -> 4
//   table[7..9]: 1, 2, 3 -> 4, 5, 6
// Fields are matched by name; one that only one side has, or whose type
// changed, is shown as such. Banks, checksums and sequences are not compared:
// two segments with the same content are equal however they came to it.
std::string Diff(const RecoveryReport& before, const RecoveryReport& after);

// The same as a JSON array of {"field", "before", "after"}; null for absent.
std::string DiffJson(const RecoveryReport& before, const RecoveryReport& after);

}  // namespace holdfast

#endif  // HOLDFAST_STATESTORE_DUMP_H_
