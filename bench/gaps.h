#ifndef HOLDFAST_BENCH_GAPS_H_
#define HOLDFAST_BENCH_GAPS_H_

#include <string>
#include <vector>

namespace holdfast::bench {

// What a client that asks without a pause sees of instants at which something
// happened to whoever answers. Seconds, all of one clock.

// From a question to its answer.
struct Trip {
  double start;
  double end;
};

inline double Took(const Trip& trip) { return trip.end - trip.start; }

struct Hit {
  double gap;   // From the instant to the end of the trip that it hit.
  double took;  // What that trip took.
};

// Of each instant the trip that it hit: the longest of those that were under
// way then or began within `window` after it. An instant after the last trip
// hit none and is left out. `trips` in the order of time.
std::vector<Hit> Hits(const std::vector<Trip>& trips,
                      const std::vector<double>& instants, double window);

// The same where it is known which trips were the first that another process
// answered, `firsts`: of each instant the first of those that ends after it,
// and before the next instant. Both in the order of time.
std::vector<Hit> Takeovers(const std::vector<Trip>& firsts,
                           const std::vector<double>& instants);

// What the others took, in ascending order: those that end before the next
// instant and begin more than `after` past the last. Both in order of time.
std::vector<double> Untouched(const std::vector<Trip>& trips,
                              const std::vector<double>& instants,
                              double after);

// As JSON: [[gap, took], ...]; and [median, longest] of ascending numbers.
std::string ToJson(const std::vector<Hit>& hits);
std::string MedianAndLongest(const std::vector<double>& ascending);

}  // namespace holdfast::bench

#endif  // HOLDFAST_BENCH_GAPS_H_
