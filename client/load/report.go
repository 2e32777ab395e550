package load

import (
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Report is what came of a load. Times are in milliseconds where the name does not say otherwise. Latencies are those of
// operations that succeeded.
type Report struct {
	Mix         Mix     `json:"mix"`
	Connections int     `json:"connections"`
	Rate        float64 `json:"rate,omitempty"` // asked for, a second; absent: as fast as possible
	Events      int     `json:"events"`
	Customers   int     `json:"customers"` // of each city
	Keys        bool    `json:"keys"`      // whether bookings carried idempotency keys
	Seed        uint64  `json:"seed"`

	Seconds    float64 `json:"seconds"`    // from the end of the warm-up to the last answer
	Operations uint64  `json:"operations"` // that succeeded
	PerSecond  float64 `json:"operationsPerSecond"`
	Latency    Latency `json:"latencyMilliseconds"`
	Kinds      []Kind  `json:"kinds"`

	Refusals map[string]uint64 `json:"refusals"` // by code
	Failures map[string]uint64 `json:"failures"` // by code, or no_connection, no_answer, wrong_answer

	// ClientMicroseconds is the processor time that this process used for each operation; 0: not known.
	ClientMicroseconds float64 `json:"clientMicrosecondsPerOperation"`
	Interrupted        bool    `json:"interrupted"`
}

// Kind is the part of a load that is of one operation.
type Kind struct {
	Operation  string  `json:"operation"`
	Operations uint64  `json:"operations"`
	PerSecond  float64 `json:"operationsPerSecond"`
	Latency    Latency `json:"latencyMilliseconds"`
}

// Latency is how long operations took, exact to 1 %; the greatest one is exact.
type Latency struct {
	P50  float64 `json:"p50"`
	P90  float64 `json:"p90"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99.9"`
	Max  float64 `json:"max"`
}

// newReport adds up what the workers counted.
func newReport(course *course, workers []*worker, cpu time.Duration) *Report {
	config := course.config
	report := &Report{
		Mix: config.Mix, Connections: config.Connections, Rate: config.Rate, Events: len(course.stage.events),
		Customers: config.Customers, Keys: !config.WithoutKeys, Seed: config.Seed,
		Kinds: []Kind{}, Refusals: make(map[string]uint64), Failures: make(map[string]uint64),
	}
	last := course.counted
	all, slowest := newHistogram(), time.Duration(0)
	var each [kinds]*hdrhistogram.Histogram
	var slowestOf [kinds]time.Duration
	for _, w := range workers {
		if w.last.After(last) {
			last = w.last
		}
		add(report.Refusals, w.refusals)
		add(report.Failures, w.failures)
		for of, latencies := range w.latencies {
			if latencies == nil {
				continue
			}
			if each[of] == nil {
				each[of] = newHistogram()
			}
			each[of].Merge(latencies)
			all.Merge(latencies)
			slowestOf[of] = max(slowestOf[of], w.slowest[of])
			slowest = max(slowest, w.slowest[of])
		}
	}
	report.Seconds = last.Sub(course.counted).Seconds()
	report.Operations = uint64(all.TotalCount())
	report.PerSecond = perSecond(report.Operations, report.Seconds)
	report.Latency = newLatency(all, slowest)
	for of, latencies := range each {
		if latencies != nil {
			count := uint64(latencies.TotalCount())
			report.Kinds = append(report.Kinds, Kind{
				Operation: kindNames[of], Operations: count, PerSecond: perSecond(count, report.Seconds),
				Latency: newLatency(latencies, slowestOf[of]),
			})
		}
	}
	done := uint64(0) // the processor time includes the warm-up, so the operations do too
	for _, w := range workers {
		done += w.succeeded.Load() + w.refused.Load() + w.failed.Load()
	}
	if done > 0 {
		report.ClientMicroseconds = float64(cpu.Microseconds()) / float64(done)
	}
	return report
}

func newLatency(latencies *hdrhistogram.Histogram, slowest time.Duration) Latency {
	milliseconds := func(quantile float64) float64 {
		return min(float64(latencies.ValueAtQuantile(quantile))/1000, float64(slowest.Microseconds())/1000)
	}
	return Latency{
		P50: milliseconds(50), P90: milliseconds(90), P99: milliseconds(99), P999: milliseconds(99.9),
		Max: float64(slowest.Microseconds()) / 1000,
	}
}

func perSecond(count uint64, seconds float64) float64 {
	if seconds <= 0 {
		return 0
	}
	return float64(count) / seconds
}

func add(to, from map[string]uint64) {
	for name, count := range from {
		to[name] += count
	}
}
