package linearizability

import (
	"fmt"
	"testing"

	"dems/client/drill/history"
)

// BenchmarkCheck checks 200,000 operations in groups of 300, as a long drill leaves them behind. Of every thousand so many are
// lost.
func BenchmarkCheck(b *testing.B) {
	for _, bench := range []struct{ clients, lost int }{{4, 0}, {8, 0}, {8, 10}, {8, 50}, {8, 100}, {8, 150}, {8, 200}} {
		b.Run(fmt.Sprintf("clients=%d/lost=%d", bench.clients, bench.lost), func(b *testing.B) {
			const groups, each = 667, 300
			var operations []history.Operation
			unknown := 0
			for group := range groups {
				for _, o := range simulate(b, group, bench.clients, each, bench.lost, 1) {
					operations = append(operations, o)
					if o.Outcome == history.Unknown {
						unknown++
					}
				}
			}
			var result Result
			for b.Loop() {
				result = Check(b.Context(), operations, Options{})
			}
			if len(result.Violations) > 0 {
				b.Fatal(result.Violations[0])
			}
			b.ReportMetric(float64(unknown)/groups, "unknown/group")
			b.ReportMetric(float64(len(result.Undecided)), "undecided")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(operations)), "ns/operation")
		})
	}
}

func BenchmarkCheckSequences(b *testing.B) {
	var operations []history.Operation
	for group := range 100 {
		operations = append(operations, simulate(b, group, 8, 1000, 0, 1)...)
	}
	for b.Loop() {
		CheckSequences(operations)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(operations)), "ns/operation")
}
