package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
	"time"
)

// report is the outcome of one scenario.
type report struct {
	System          string  `json:"system"`
	Scenario        string  `json:"scenario"`
	Connections     int     `json:"connections"`
	Events          int     `json:"events"`
	DurationSeconds float64 `json:"durationSeconds"`
	Bookings        int     `json:"bookings"`
	Rate            float64 `json:"bookingsPerSecond"`
	Retries         int     `json:"retries"` // transactions that failed because the event had changed
	LatencyMs50     float64 `json:"latencyMs50"`
	LatencyMs90     float64 `json:"latencyMs90"`
	LatencyMs99     float64 `json:"latencyMs99"`
	LatencyMs999    float64 `json:"latencyMs999"`
	LatencyMsMax    float64 `json:"latencyMsMax"`
}

func newReport(l *load, latency []time.Duration, retries int) report {
	slices.Sort(latency)
	return report{
		System: "etcd", Scenario: l.name, Connections: l.settings.connections, Events: l.events,
		DurationSeconds: l.settings.duration.Seconds(), Bookings: len(latency), Retries: retries,
		Rate:        float64(len(latency)) / l.settings.duration.Seconds(),
		LatencyMs50: percentile(latency, 0.5), LatencyMs90: percentile(latency, 0.9), LatencyMs99: percentile(latency, 0.99),
		LatencyMs999: percentile(latency, 0.999), LatencyMsMax: percentile(latency, 1),
	}
}

// percentile returns the smallest of the sorted latencies that at least the share of all do not exceed, in milliseconds.
func percentile(sorted []time.Duration, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	index := int(share*float64(len(sorted))+0.999999) - 1
	return float64(sorted[min(max(index, 0), len(sorted)-1)]) / float64(time.Millisecond)
}

func writeTable(w io.Writer, reports []report) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "scenario\tevents\tconnections\tbookings/s\tretries\tp50 ms\tp90 ms\tp99 ms\tp99.9 ms\tmax ms\t")
	for _, r := range reports {
		fmt.Fprintf(table, "%s\t%d\t%d\t%.0f\t%d\t%.2f\t%.2f\t%.2f\t%.2f\t%.2f\t\n", r.Scenario, r.Events, r.Connections, r.Rate,
			r.Retries, r.LatencyMs50, r.LatencyMs90, r.LatencyMs99, r.LatencyMs999, r.LatencyMsMax)
	}
	return table.Flush()
}
