package report

import "time"

// breath is how long clients may take between an operation that they gave up and the next one, so that both belong to one pause.
const breath = time.Second

// pauses calls found with every pause, in the order of time.
//
// A pause begins with a call, or with an answer that leaves others waiting, and ends with the next answer. Where nobody waits for
// longer than breath, because everything was given up, it ends with the last return before. So time in which nothing was asked for
// is no pause, but that all clients give up at one moment, and ask again in the next, does not make two pauses of one.
func (s *service) pauses(found func(from, to time.Duration)) {
	calls, misses, answers := s.calls, s.misses, s.answers
	var (
		waiting int
		pausing bool          // as it always is while some wait
		since   time.Duration // while pausing: when that began
		gaveUp  time.Duration // the last return without an answer
	)
	// Of what happened at one moment, calls come first, so that each comes before its return, and answers last.
	for len(misses) > 0 || len(answers) > 0 {
		switch {
		case len(calls) > 0 && !before(misses, calls[0]) && !before(answers, calls[0]):
			now := calls[0]
			if pausing && waiting == 0 && now-gaveUp > breath {
				found(since, gaveUp)
				pausing = false
			}
			if !pausing {
				pausing, since = true, now
			}
			waiting++
			calls = calls[1:]
		case len(misses) > 0 && !before(answers, misses[0]):
			gaveUp = misses[0]
			waiting--
			misses = misses[1:]
		default:
			found(since, answers[0])
			since = answers[0]
			waiting--
			pausing = waiting > 0
			answers = answers[1:]
		}
	}
	if pausing {
		found(since, gaveUp)
	}
}

// before tells whether the first of the sorted times, if there is one, is earlier than a moment.
func before(times []time.Duration, moment time.Duration) bool {
	return len(times) > 0 && times[0] < moment
}
