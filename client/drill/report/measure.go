package report

import (
	"math"
	"slices"
	"time"

	"dems/client/drill/history"
)

const (
	mostSlices  = 600
	leastSlice  = 100 * time.Millisecond
	mostSeconds = 10 * 365 * 24 * 3600 // of a drill, and of any time in it
)

// Measure fills what the operations tell: Operations, Writes, Reads, Slices, and of each round, whose times have to be there, the
// pauses, the slowest answers and what was not answered. An operation without an outcome counts as unknown.
func (r *Report) Measure(operations []history.Operation) {
	writes, reads := service{}, service{}
	r.Operations = Operations{}
	for i := range operations {
		operation := &operations[i]
		r.count(operation)
		of := &reads
		if operation.Command.Op.Mutates() {
			of = &writes
		}
		of.add(operation)
	}
	writes.sort()
	reads.sort()
	end := max(duration(r.Seconds), writes.last(), reads.last())
	r.Seconds = max(r.Seconds, end.Seconds())
	r.Writes, r.Reads = writes.measure(), reads.measure()
	r.Slices = cut(operations, end)
	r.measureRounds(operations, &writes, &reads, end)
}

func (r *Report) count(operation *history.Operation) {
	r.Operations.Tried++
	switch {
	case operation.Outcome == history.Answered && operation.Result.Code == 0:
		r.Operations.Acknowledged++
	case operation.Outcome == history.Answered:
		r.Operations.Refused++
	case operation.Outcome == history.Failed:
		r.Operations.Failed++
	default:
		r.Operations.Unknown++
	}
}

// service is the times of all writes, or of all reads, each list in ascending order.
type service struct {
	calls     []time.Duration
	answers   []time.Duration // when they returned with an answer
	misses    []time.Duration // when they returned without
	latencies []time.Duration // of those that were answered
}

func (s *service) add(operation *history.Operation) {
	called, returned := span(operation)
	s.calls = append(s.calls, called)
	if operation.Outcome == history.Answered {
		s.answers = append(s.answers, returned)
		s.latencies = append(s.latencies, returned-called)
	} else {
		s.misses = append(s.misses, returned)
	}
}

// span returns when an operation was called and when it returned, which is not earlier.
func span(operation *history.Operation) (called, returned time.Duration) {
	called = max(0, min(operation.Call, mostSeconds*time.Second))
	return called, max(called, min(operation.Return, mostSeconds*time.Second))
}

func (s *service) sort() {
	for _, times := range [][]time.Duration{s.calls, s.answers, s.misses, s.latencies} {
		slices.Sort(times)
	}
}

// last returns when the last one returned.
func (s *service) last() time.Duration {
	var last time.Duration
	for _, times := range [][]time.Duration{s.answers, s.misses} {
		if len(times) > 0 {
			last = max(last, times[len(times)-1])
		}
	}
	return last
}

func (s *service) measure() Service {
	var longest time.Duration
	s.pauses(func(from, to time.Duration) { longest = max(longest, to-from) })
	return Service{
		Tried: uint64(len(s.calls)), Answered: uint64(len(s.answers)),
		P50MS: milliseconds(percentile(s.latencies, 50, 100)), P99MS: milliseconds(percentile(s.latencies, 99, 100)),
		P999MS: milliseconds(percentile(s.latencies, 999, 1000)), MaxMS: milliseconds(percentile(s.latencies, 1, 1)),
		LongestPauseMS: milliseconds(longest),
	}
}

// percentile returns the smallest of the sorted durations that at least part/whole of them do not exceed; 0 if there are none.
func percentile(sorted []time.Duration, part, whole int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[max(0, (len(sorted)*part+whole-1)/whole-1)]
}

// cut forms the timeline: slices of 1, 2 or 5 times a power of ten, at least leastSlice and as narrow as mostSlices allows.
func cut(operations []history.Operation, end time.Duration) []Slice {
	width := sliceWidth(end)
	timeline := make([]Slice, max(1, (end+width-1)/width))
	latencies := bySlice(operations, width, len(timeline))
	for i := range timeline {
		slice, width := &timeline[i], width.Seconds()
		slice.From, slice.To = float64(i)*width, float64(i+1)*width
		slices.Sort(latencies[i])
		slice.P50MS = milliseconds(percentile(latencies[i], 50, 100))
		slice.P99MS = milliseconds(percentile(latencies[i], 99, 100))
	}
	for i := range operations {
		operation := &operations[i]
		called, returned := span(operation)
		slice, latency := &timeline[sliceOf(returned, width, len(timeline))], milliseconds(returned-called)
		switch {
		case operation.Outcome != history.Answered:
			slice.Failed++
		case operation.Command.Op.Mutates():
			slice.Writes++
			slice.WriteMS = max(slice.WriteMS, latency)
		default:
			slice.Reads++
			slice.ReadMS = max(slice.ReadMS, latency)
		}
	}
	return timeline
}

func sliceWidth(end time.Duration) time.Duration {
	for unit := leastSlice; ; unit *= 10 {
		for _, width := range []time.Duration{unit, 2 * unit, 5 * unit} {
			if (end+width-1)/width <= mostSlices {
				return width
			}
		}
	}
}

// sliceOf returns the slice that a moment lies in. The very end belongs to the last one.
func sliceOf(moment, width time.Duration, count int) int { return min(int(moment/width), count-1) }

// bySlice returns the latencies of what was answered in each slice. The lists share one array.
func bySlice(operations []history.Operation, width time.Duration, count int) [][]time.Duration {
	sizes, total := make([]int, count), 0
	for i := range operations {
		if operations[i].Outcome == history.Answered {
			_, returned := span(&operations[i])
			sizes[sliceOf(returned, width, count)]++
			total++
		}
	}
	lists, all := make([][]time.Duration, count), make([]time.Duration, total)
	for i, size := range sizes {
		lists[i], all = all[:0:size], all[size:]
	}
	for i := range operations {
		if operation := &operations[i]; operation.Outcome == history.Answered {
			called, returned := span(operation)
			list := &lists[sliceOf(returned, width, count)]
			*list = append(*list, returned-called)
		}
	}
	return lists
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// duration turns seconds of a report into a duration. What is no time within a drill becomes the nearest one.
func duration(seconds float64) time.Duration {
	if !(seconds > 0) {
		return 0
	}
	return time.Duration(math.Round(min(seconds, mostSeconds) * float64(time.Second)))
}
