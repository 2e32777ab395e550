package report

import (
	"cmp"
	"slices"
	"time"

	"dems/client/drill/history"
)

// window is the time of a round.
type window struct {
	from, to time.Duration
	latest   time.Duration // the greatest to of this one and those before
	round    *Round
}

// windows are those of all rounds, in the order of their beginnings.
type windows []window

func newWindows(rounds []Round, end time.Duration) windows {
	list := make(windows, len(rounds))
	for i := range rounds {
		list[i] = window{from: duration(rounds[i].At), to: duration(rounds[i].EndedAt), round: &rounds[i]}
	}
	slices.SortStableFunc(list, func(a, b window) int { return cmp.Compare(a.from, b.from) })
	for i := range list {
		if list[i].to == 0 {
			list[i].to = end
			if i+1 < len(list) {
				list[i].to = list[i+1].from
			}
		}
		list[i].latest = list[i].to
		if i > 0 {
			list[i].latest = max(list[i].to, list[i-1].latest)
		}
	}
	return list
}

// during returns the windows that begin before to, without those at the front that have all ended at from. Where rounds follow
// each other, the time between from and to has a part in each.
func (w windows) during(from, to time.Duration) windows {
	next, _ := slices.BinarySearchFunc(w, to, func(window window, to time.Duration) int {
		if window.from < to {
			return -1
		}
		return 1
	})
	first := next
	for first > 0 && w[first-1].latest > from {
		first--
	}
	return w[first:next]
}

// measureRounds fills what the operations tell of each round.
func (r *Report) measureRounds(operations []history.Operation, writes, reads *service, end time.Duration) {
	windows := newWindows(r.Rounds, end)
	longest := func(pause func(*Round) *float64) func(from, to time.Duration) {
		return func(from, to time.Duration) {
			for _, window := range windows.during(from, to) {
				part := min(to, window.to) - max(from, window.from)
				*pause(window.round) = max(*pause(window.round), milliseconds(part))
			}
		}
	}
	for i := range r.Rounds {
		round := &r.Rounds[i]
		round.WritePauseMS, round.ReadPauseMS, round.SlowestWriteMS, round.SlowestReadMS, round.Unanswered = 0, 0, 0, 0, 0
	}
	writes.pauses(longest(func(round *Round) *float64 { return &round.WritePauseMS }))
	reads.pauses(longest(func(round *Round) *float64 { return &round.ReadPauseMS }))
	for i := range operations {
		operation := &operations[i]
		called, returned := span(operation)
		for _, window := range windows.during(called, returned) {
			latency := milliseconds(returned - called)
			switch round := window.round; {
			case window.to <= called:
			case operation.Outcome != history.Answered:
				round.Unanswered++
			case operation.Command.Op.Mutates():
				round.SlowestWriteMS = max(round.SlowestWriteMS, latency)
			default:
				round.SlowestReadMS = max(round.SlowestReadMS, latency)
			}
		}
	}
}
