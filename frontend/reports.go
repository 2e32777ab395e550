package frontend

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"dems"
)

const (
	// reportLimit is how many reports may wait for one node; the oldest gives way.
	reportLimit = 32
	// reportTimeout bounds one report to one node.
	reportTimeout = 500 * time.Millisecond
	// reportLanes is how many nodes are sent reports at once.
	reportLanes = 64
	// noMajorityPause is the least time between two reports that no answer had a majority.
	noMajorityPause = time.Second
)

// reporter tells all nodes what this front end has seen, each in order and none waiting for another. Nothing waits for it.
type reporter struct {
	members *members
	logger  *slog.Logger
	metrics *coreMetrics
	errands *errands // one for each node that reports wait for

	mu         sync.Mutex
	lanes      map[*node]*reportLane
	noMajority time.Time // when that was last reported
}

// reportLane is the reports that wait for one node.
type reportLane struct {
	waiting []dems.Report
	driven  bool // somebody sends them
}

func newReporter(m *members, logger *slog.Logger, metrics *coreMetrics) *reporter {
	return &reporter{members: m, logger: logger, metrics: metrics, errands: newErrands(reportLanes), lanes: map[*node]*reportLane{}}
}

// add has a report sent to every node.
func (r *reporter) add(report dems.Report) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if report.Kind == dems.NoMajorityReport {
		now := time.Now()
		if !r.noMajority.IsZero() && now.Sub(r.noMajority) < noMajorityPause {
			return
		}
		r.noMajority = now
	}
	r.metrics.reports.WithLabelValues(reportNames[report.Kind]).Inc()
	for _, n := range r.members.view().distinct() {
		l := r.lanes[n]
		if l == nil {
			l = &reportLane{}
			r.lanes[n] = l
		}
		if l.add(report); !l.driven {
			l.driven = r.errands.start(func(ctx context.Context) { r.drive(ctx, n, l) })
		}
	}
}

// add lets a report wait. Where many do, one about the same life of the same node gives way to it that says less, then the
// oldest.
func (l *reportLane) add(report dems.Report) {
	if len(l.waiting) >= reportLimit {
		at := slices.IndexFunc(l.waiting, func(other dems.Report) bool {
			return other.Node == report.Node && other.Incarnation == report.Incarnation && other.Kind <= report.Kind
		})
		at = max(at, 0)
		l.waiting = slices.Delete(l.waiting, at, at+1)
	}
	l.waiting = append(l.waiting, report)
}

// take returns the next report for a node; false, and the lane is not driven any more, where there is none.
func (r *reporter) take(l *reportLane) (dems.Report, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(l.waiting) == 0 {
		l.driven = false
		return dems.Report{}, false
	}
	report := l.waiting[0]
	l.waiting = slices.Delete(l.waiting, 0, 1)
	return report, true
}

// drive sends a node what waits for it.
func (r *reporter) drive(ctx context.Context, n *node, l *reportLane) {
	for {
		report, ok := r.take(l)
		if !ok {
			return
		}
		attempt, cancel := context.WithTimeout(ctx, reportTimeout)
		err := n.replica.Report(attempt, report)
		cancel()
		if err != nil {
			r.logger.Debug("report", "node", n.address, "kind", reportNames[report.Kind], "error", err)
		}
	}
}

// reportNames are the labels of the metrics.
var reportNames = [...]string{
	dems.WrongAnswerReport: "wrong-answer", dems.AccusationReport: "accusation", dems.NoMajorityReport: "no-majority",
}
