# Checks a stream of greetings, "hello #N": each N once, in order. Numbers start
# anywhere; the first line may lack its beginning and the last one its end.
#
# The kernel reads /dev/hwrng for itself at times, whatever it is told: TAKEN
# bytes at once, wherever the stream is. A gap of exactly so many is its doing.
#
# Ends with the stream, or soon after the file that STOP names has a line.
BEGIN { TAKEN = 64 }

function finding(text) {
  print "RNG-FINDING " text
  bad = 1
}

# Whether `line` is what follows greeting `last` with TAKEN bytes missing. Then
# `last` is the greeting with which it ends.
function taken(line, rest, n, kept, end) {
  for (n = last + 1; length(rest) < 3 * TAKEN; n++) {
    rest = rest "hello #" n "\n"
    end = length(rest)
    for (kept = 0; kept <= length(line) && kept + TAKEN < end; kept++) {
      if (line "\n" == substr(rest, 1, kept) substr(rest, kept + TAKEN + 1)) {
        last = n
        return 1
      }
    }
  }
  return 0
}

function check(line) {
  if (line == "hello #" (last + 1)) {
    last++
  } else if (!last && line ~ /^hello #[0-9]+$/) {
    last = substr(line, 8) + 0
  } else if (taken(line)) {
    gaps++
  } else {
    finding("after " last " comes " line)
    last = substr(line, 8) + 0
  }
}

# A line is whole when the next one has begun.
NR > 2 { check(line) }
{ line = $0 }
NR % 256 == 0 {
  print "RNG-CHECKED " NR
  if ((getline word < ENVIRON["STOP"]) > 0) exit
}
END {
  print "RNG-RESULT " NR " " last " " gaps + 0
  exit bad
}
