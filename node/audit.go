package node

import (
	"context"
	"time"

	"dems"
)

// auditShare is how many times longer than an audit the pause after it is at least: half a percent of one processor.
const auditShare = 200

// auditState forms the digest of the state again from the records, time after time, until ctx ends: memory may change
// without a command.
func (n *Node) auditState(ctx context.Context) {
	pause := n.config.AuditInterval
	for wait(ctx, pause) {
		start := time.Now()
		if changed, err := n.state.audit(ctx); err != nil {
			return // the node stops
		} else if changed {
			n.logger.Error("the state in memory changed without a command: this node is wrong, and says so to its peers")
		}
		pause = auditPause(n.config.AuditInterval, pause, time.Since(start))
	}
}

// auditPause returns how long to wait after an audit that took a time and came after a pause. It grows step by step: one
// audit that took long because others had the processor must not keep the next away for minutes.
func auditPause(interval, last, took time.Duration) time.Duration {
	return min(max(interval, auditShare*took), 2*last)
}

// audit compares the digest of the state with its records, and votes for the state that it finds: peers then compare it
// with theirs, even where no entry has come for long. If memory has changed the digest is made that of the records; every
// later vote tells the peers. It returns an error if ctx has ended or the node has failed, and then has not voted.
func (s *stateMachine) audit(ctx context.Context) (changed bool, err error) {
	if s.hasFailed() {
		return false, errFailed
	}
	s.mu.Lock()
	taken := s.machine.Snapshot()
	s.mu.Unlock()
	index, digest := taken.Index(), taken.Digest()
	if taken.Recompute() != digest {
		changed = true
		index, digest = s.resum()
	}
	// Only when the entry's own vote is out: the later vote of a node at one index counts, and this is it. An index that
	// others have left behind by then does no harm; what was voted there stays true.
	if err := s.applied.wait(ctx, index); err != nil {
		return changed, err
	}
	if s.hasFailed() {
		return changed, errFailed
	}
	if index > 0 {
		s.ring.publish([]ballot{{vote: dems.Vote{Node: s.id, Incarnation: s.incarnation, Index: index, State: digest}}})
	}
	return changed, nil
}

// resum makes the digest that of the records.
func (s *stateMachine) resum() (index uint64, digest dems.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.machine.Resum()
	index, digest = s.machine.Index(), s.machine.Digest()
	s.history.add(index, digest)
	return index, digest
}
