package frontend

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"dems"
)

const (
	// leastDeadline and mostDeadline bound how long a leader may take to answer before it is suspected: less would fire on
	// a collection of garbage or a slow disk, more would be no help.
	leastDeadline = 30 * time.Millisecond
	mostDeadline  = 400 * time.Millisecond
	// firstDeadline holds while no leader has answered lately.
	firstDeadline = 100 * time.Millisecond
	// paceWindow is how long an answer counts as recent, at least; at the most it is twice that.
	paceWindow = 2500 * time.Millisecond
	// suspicionPause is the least time between two suspicions of one leader in one term.
	suspicionPause = 50 * time.Millisecond
	// suspicionTimeout bounds the wait for one node's opinion.
	suspicionTimeout = 500 * time.Millisecond
	// suspicionLimit is how many opinions may be waited for at once; beyond it nobody is asked.
	suspicionLimit = 64
)

// suspector finds out when the leader does not answer and tells the other nodes. They look for themselves and choose another
// one where most of them agree, so being wrong here costs a few calls.
type suspector struct {
	members *members
	logger  *slog.Logger
	metrics *coreMetrics
	errands *errands

	mu      sync.Mutex
	slowest [2]time.Duration // of the leaders' answers, in the window that runs and in the one before
	began   time.Time        // the window that runs
	leader  *node            // who was suspected last, in which term, and when
	term    uint64
	last    time.Time
}

func newSuspector(m *members, logger *slog.Logger, metrics *coreMetrics) *suspector {
	return &suspector{members: m, logger: logger, metrics: metrics, errands: newErrands(suspicionLimit)}
}

// answered takes in how long a leader took to answer.
func (s *suspector) answered(took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn()
	s.slowest[0] = max(s.slowest[0], took)
}

// deadline returns how long a leader may take: twice as long as the slowest recent answer.
func (s *suspector) deadline() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn()
	slowest := max(s.slowest[0], s.slowest[1])
	if slowest == 0 {
		return firstDeadline
	}
	return min(max(2*slowest, leastDeadline), mostDeadline)
}

// voteDeadline returns how long the votes of a majority may take after the leader's answer. They come soon after it where the
// leader reaches the others, but they may be busy, too.
func (s *suspector) voteDeadline() time.Duration { return min(4*s.deadline(), mostDeadline) }

// turn begins another window where the time of the present one is over. Callers hold mu.
func (s *suspector) turn() {
	passed := time.Since(s.began)
	if passed < paceWindow {
		return
	}
	s.slowest = [2]time.Duration{0, s.slowest[0]}
	if passed >= 2*paceWindow {
		s.slowest[1] = 0
	}
	s.began = time.Now()
}

// suspect tells the other voters that a node does not answer, if it is the leader and they have not just been told, and has
// every node polled fast until somebody else leads.
func (s *suspector) suspect(n *node) {
	view := s.members.view()
	if view.leader != n || n.name() == "" || !s.due(n, view.term) {
		return
	}
	s.members.hurry()
	s.metrics.suspicions.Inc()
	s.logger.Debug("the leader does not answer", "leader", n.name(), "term", view.term)
	suspicion := dems.Suspicion{Leader: n.name(), Term: view.term}
	for _, other := range view.voters {
		if other == n {
			continue
		}
		s.errands.start(func(ctx context.Context) {
			ctx, cancel := context.WithTimeout(ctx, suspicionTimeout)
			defer cancel()
			opinion, err := other.replica.Suspect(ctx, suspicion)
			s.logger.Debug("opinion on the leader", "node", other.address, "agrees", opinion.Agrees, "term", opinion.Term, "error", err)
			s.members.refresh()
		})
	}
}

// due tells whether a leader may be suspected again.
func (s *suspector) due(n *node, term uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.leader == n && s.term == term && now.Sub(s.last) < suspicionPause {
		return false
	}
	s.leader, s.term, s.last = n, term, now
	return true
}
