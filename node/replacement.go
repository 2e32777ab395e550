package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"dems"
	"dems/fsm"
	"dems/node/storage"
	"dems/node/verdict"

	"github.com/hashicorp/raft"
)

// Steps are the steps of a replacement at which Config.Failpoint is called, in order: first those of whoever leads, then
// those of the node that is replaced. Emptying has steps of its own, storage.Steps.
var Steps = []string{
	"hand-over", "remove", "removed", "add-nonvoter", "nonvoter-added", "compare", "add-voter", "voter-added",
	"learn", "learned",
}

const (
	// idleInterval is how often the leader looks whether there is something to replace, unless it is told before.
	idleInterval = 500 * time.Millisecond
	// busyInterval is how often it looks while a replacement is under way and waits for something.
	busyInterval = 20 * time.Millisecond
	// statusTimeout bounds asking all members for their status.
	statusTimeout = 300 * time.Millisecond
	// compareTimeout bounds waiting for a node that catches up to reach the index at which states are compared.
	compareTimeout = 2 * time.Second
	// learnInterval is how often a node asks whether it was removed while it has reason to think so, longInterval while it
	// merely knows no leader.
	learnInterval = 25 * time.Millisecond
	longInterval  = time.Second
	// silentTime is how long a node that lost its data asks peers, too few of which answer, whether it is being replaced.
	silentTime = 5 * time.Second
	// eagerQuestions is how often in a row it asks that fast. A node in quarantine, or one that cannot be spared, may have to
	// wait for days.
	eagerQuestions = 400
)

// Replaced is what Run returns when this incarnation was removed from the cluster. The caller empties the data folder with
// Empty, which wants this proof, and opens the node again.
type Replaced struct{ Removal *storage.Removal }

// Error implements error.
func (r *Replaced) Error() string {
	return fmt.Sprintf("incarnation %d of %s was removed from the cluster, say %v; the next is %d",
		r.Removal.Incarnation(), r.Removal.ID(), r.Removal.Witnesses(), r.Removal.Next())
}

var (
	errNoLeader = errors.New("no leader is known")
	errNoVoter  = errors.New("the node has no vote")

	errNotConfigured = errors.New("the member is not among the peers that this node was started with: start every node with the same")
)

// isRefusal tells whether an error means that an entry was ordered and refused, or could not be ordered ever.
func isRefusal(err error) bool {
	refused, ok := errors.AsType[*dems.ReplicaError](err)
	return ok && refused.Kind == dems.BadRequest
}

// statusesOf asks nodes for their status, all at once, and returns those that answered.
func (n *Node) statusesOf(ctx context.Context, ids []dems.NodeID) map[dems.NodeID]dems.NodeStatus {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	var mu sync.Mutex
	var group sync.WaitGroup
	statuses := make(map[dems.NodeID]dems.NodeStatus, len(ids))
	for _, id := range ids {
		group.Go(func() {
			status, err := n.peers[id].Status(ctx)
			if err == nil && status.ID == id {
				mu.Lock()
				statuses[id] = status
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return statuses
}

// standing is what this node has applied of who stands where.
type standing struct {
	standings     []dems.Standing
	members       []dems.Member
	configuration uint64 // index
	applied       uint64
}

func (n *Node) standing() standing {
	var s standing
	n.state.view(func(machine *fsm.Machine) {
		s.standings, s.members, s.applied = machine.Standings(), machine.Members(), machine.Index()
		s.configuration = n.state.appliedConfiguration()
	})
	return s
}

// of returns the standing of a node.
func (s *standing) of(id dems.NodeID) (dems.Standing, bool) {
	at := slices.IndexFunc(s.standings, func(s dems.Standing) bool { return s.Node == id })
	if at < 0 {
		return dems.Standing{}, false
	}
	return s.standings[at], true
}

// has tells whether that life of a node is a member.
func (s *standing) has(id dems.NodeID, number uint64) bool {
	return slices.ContainsFunc(s.members, func(m dems.Member) bool { return m.ID == id && m.Incarnation == number })
}

// settled tells whether nobody is to be replaced.
func (s *standing) settled() bool {
	return !slices.ContainsFunc(s.standings, func(s dems.Standing) bool {
		return s.Condition == dems.Convicted || s.Condition == dems.Expelled || s.Condition == dems.Rejoining
	})
}

// replace takes replacements from step to step while this node leads, until ctx ends. Nothing is remembered from step to
// step: the next one follows from replicated state.
func (n *Node) replace(ctx context.Context, r *raft.Raft) {
	reason := ""
	var stubborn stubbornLeader
	for {
		interval := idleInterval
		if s := n.standing(); !s.settled() {
			interval = busyInterval
			if term := r.CurrentTerm(); stubborn.isDue(&s, n.leader(), n.config.ID, term, time.Now()) {
				n.logger.Warn("the leader was convicted and does not hand over", "leader", n.leader(), "term", term)
				n.takeOver(ctx, r, dems.Suspicion{Leader: n.leader(), Term: term})
			}
			if n.isLeader() && n.isReady() {
				step := verdict.Plan(&verdict.View{
					Self: n.config.ID, Standings: s.standings, Members: s.members, Statuses: n.statusesOf(ctx, n.config.peers()),
				})
				if step.Action == verdict.Wait && step.Reason != reason {
					n.logger.Info("the replacement waits", "of", step.Node, "because", step.Reason)
				}
				reason = step.Reason
				if err := n.act(ctx, r, &step, &s); err != nil && ctx.Err() == nil {
					n.logger.Info("replacement", "step", step.Action, "of", step.Node, "error", err)
				}
			}
		}
		n.manager.changed.wait(ctx, interval)
		if ctx.Err() != nil {
			return
		}
	}
}

// stubbornLeader is a leader that was convicted and still leads.
type stubbornLeader struct {
	id    dems.NodeID
	term  uint64
	since time.Time
	tried bool
}

const (
	// handOverTime is how long a convicted leader has to hand over before its peers take over.
	handOverTime = 500 * time.Millisecond
	// takeOverTime is how long one peer has for that before the next one tries.
	takeOverTime = time.Second
)

// isDue tells whether it is this node's turn to take over from the leader: once in each of its terms, one voter after the
// other, in the order of their IDs. Who has no vote must not stand: it would depose the leader and not be elected.
func (l *stubbornLeader) isDue(s *standing, leader, self dems.NodeID, term uint64, now time.Time) bool {
	known, convicted := s.of(leader)
	if !convicted || known.Condition != dems.Convicted || leader == self {
		*l = stubbornLeader{}
		return false
	}
	if l.id != leader || l.term != term {
		*l = stubbornLeader{id: leader, term: term, since: now}
	}
	turn, votes := 0, false
	for _, member := range s.members {
		if votes = member.ID == self && member.Suffrage == dems.Voter; member.ID == self {
			break
		}
		if member.ID != leader && member.Suffrage == dems.Voter {
			turn++
		}
	}
	due := votes && !l.tried && now.Sub(l.since) >= handOverTime+time.Duration(turn)*takeOverTime
	l.tried = l.tried || due
	return due
}

// act does one step. Changes of the configuration hold only if it is still the one that the step was planned for.
func (n *Node) act(ctx context.Context, r *raft.Raft, step *verdict.Step, s *standing) error {
	server, address := serverID(step.Node, step.Incarnation), raft.ServerAddress(step.Node)
	switch step.Action {
	case verdict.HandOver:
		n.failpoint("hand-over")
		n.logger.Warn("this node was convicted; handing leadership over")
		return n.await(ctx, func() error { return r.LeadershipTransfer().Error() })
	case verdict.Remove:
		n.failpoint("remove")
		n.logger.Warn("removing", "node", server)
		err := n.await(ctx, func() error { return r.RemoveServer(server, s.configuration, enqueueTimeout).Error() })
		n.failpoint("removed")
		return err
	case verdict.AddNonvoter:
		n.failpoint("add-nonvoter")
		n.logger.Info("adding as nonvoter", "node", server)
		err := n.await(ctx, func() error { return r.AddNonvoter(server, address, s.configuration, enqueueTimeout).Error() })
		n.failpoint("nonvoter-added")
		return err
	case verdict.Compare:
		n.failpoint("compare")
		equal, err := n.compare(ctx, step, s)
		if err != nil {
			return err
		}
		if !equal {
			return n.proposeEntry(ctx, dems.Entry{Kind: dems.ReplacementEntry, Replacement: dems.Replacement{
				Node: step.Node, Incarnation: step.Incarnation, By: string(n.config.ID), Automatic: true, Time: now(),
				Cause: "its state differs from the majority's after it has caught up",
			}})
		}
		n.failpoint("add-voter")
		n.logger.Info("its state is the majority's; adding as voter", "node", server)
		err = n.await(ctx, func() error { return r.AddVoter(server, address, s.configuration, enqueueTimeout).Error() })
		n.failpoint("voter-added")
		return err
	}
	return nil
}

// await runs what waits for one of Raft's futures, which know no context. If ctx ends first the outcome is unknown.
func (n *Node) await(ctx context.Context, do func() error) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	done := make(chan error, 1)
	if err := n.enqueue(func() { done <- do() }); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// compare compares the state of a node that catches up with those of the voters, at the index that this node has applied.
// It is equal when a majority of the voters has the same digest there. An error means that it is not known yet.
//
// Of a replacement by hand, the node's own state counts, too: where the voters that are left disagree with each other, an
// operator has decided who is right and lets the others copy that one.
func (n *Node) compare(ctx context.Context, step *verdict.Step, s *standing) (equal bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, compareTimeout)
	var asking sync.WaitGroup
	defer asking.Wait()
	defer cancel()
	peer := n.peers[step.Node]
	if peer == nil {
		return false, fmt.Errorf("%s: %w", step.Node, errNotConfigured)
	}
	status, err := peer.Status(ctx)
	if err != nil {
		return false, err
	}
	if status.Incarnation != step.Incarnation {
		return false, fmt.Errorf("%s runs as incarnation %d", step.Node, status.Incarnation)
	}
	theirs := n.digestOf(ctx, step.Node, s.applied)
	if theirs.err != nil {
		return false, fmt.Errorf("its state at index %d: %w", s.applied, theirs.err)
	}
	digests := make(chan voterDigest, len(s.members))
	voters, same := 0, 0
	for _, member := range s.members {
		if member.Suffrage == dems.Voter {
			voters++
			asking.Go(func() { digests <- n.digestOf(ctx, member.ID, s.applied) })
		}
	}
	needed := voters/2 + 1
	if standing, known := s.of(step.Node); known && standing.ByHand {
		same, needed = 1, (voters+1)/2+1
	}
	others := make(map[dems.Digest]int)
	for range voters {
		got := <-digests
		switch {
		case got.err != nil:
			continue
		case got.digest == theirs.digest:
			same++
		default:
			others[got.digest]++
		}
		if same >= needed || others[got.digest] >= needed {
			return same >= needed, nil // the rest of the calls end with ctx
		}
	}
	return false, fmt.Errorf("at index %d %d voters have its state, %d are needed", s.applied, same, needed)
}

type voterDigest struct {
	digest dems.Digest
	err    error
}

// digestOf asks a node for the digest of its state at an index until it has applied it, or ctx ends.
func (n *Node) digestOf(ctx context.Context, id dems.NodeID, index uint64) voterDigest {
	replica := n.replica(id)
	if replica == nil {
		return voterDigest{err: errNotConfigured}
	}
	for {
		digest, err := replica.StateAt(ctx, index)
		if err == nil || !wait(ctx, busyInterval/2) {
			return voterDigest{digest, err}
		}
	}
}

// learn finds out whether this incarnation was removed, until it was or ctx ends. Nobody tells a removed follower, and its
// own log may never say so; what counts is what a majority of the cluster has applied. It asks while it has reason to.
func (n *Node) learn(ctx context.Context) {
	for eager := 0; ; {
		interval := longInterval
		suspicious := n.mayBeRemoved()
		if suspicious || n.leader() == "" || !n.isReady() {
			n.failpoint("learn")
			statuses := n.statusesOf(ctx, n.config.peers())
			if err := n.checkOrigin(statuses); err != nil {
				n.fail(err)
				return
			}
			if proof, err := n.proofIn(statuses); err == nil {
				n.failpoint("learned")
				n.endAsReplaced(proof)
				return
			}
		}
		if !suspicious {
			eager = 0
		} else if eager++; eager <= eagerQuestions {
			interval = learnInterval
		}
		n.manager.concerned.wait(ctx, interval)
		if ctx.Err() != nil {
			return
		}
	}
}

// mayBeRemoved tells whether this node has applied that its incarnation is to leave or has left.
func (n *Node) mayBeRemoved() bool {
	s := n.standing()
	own, known := s.of(n.config.ID)
	return known && (own.Condition == dems.Convicted || own.Incarnation > n.folder.Marker.Incarnation)
}

// awaitReplacement is for a node that lost its data. While its peers say that it is being replaced, which an operator has
// to ask for, it waits for its removal, which ends it. It returns false if it is not being replaced: when peers that are a
// majority, or all there are, say nothing of it, or when for silentTime so few answer that nobody knows.
func (n *Node) awaitReplacement(ctx context.Context) bool {
	heard := time.Now()
	for {
		statuses := n.statusesOf(ctx, n.config.peers())
		if proof, err := n.proofIn(statuses); err == nil {
			n.endAsReplaced(proof)
			return true
		}
		replacing := 0
		for _, status := range statuses {
			s := standing{standings: status.Standings}
			if own, known := s.of(n.config.ID); known && own.Condition != dems.Correct && own.Condition != dems.Quarantined {
				replacing++
			}
		}
		decided := len(statuses) >= min(n.config.majority(), len(n.config.peers()))
		if replacing > 0 {
			heard = time.Now()
		} else if decided || time.Since(heard) > silentTime {
			return false
		}
		if !wait(ctx, learnInterval) {
			return false
		}
	}
}

// isOutlived tells whether a peer knows of a later incarnation of this node.
func (n *Node) isOutlived(ctx context.Context) bool {
	for _, status := range n.statusesOf(ctx, n.config.peers()) {
		s := standing{standings: status.Standings}
		if own, known := s.of(n.config.ID); known && own.Incarnation > n.folder.Marker.Incarnation {
			return true
		}
	}
	return false
}

// proofIn returns what the peers' statuses prove.
func (n *Node) proofIn(statuses map[dems.NodeID]dems.NodeStatus) (*storage.Removal, error) {
	cluster := append(n.config.peers(), n.config.ID)
	return storage.ProveRemoval(n.config.ID, n.folder.Marker.Incarnation, cluster, statuses)
}

// endAsReplaced stops the node. Run returns the proof.
func (n *Node) endAsReplaced(proof *storage.Removal) {
	n.failOnce.Do(func() {
		n.failure = &Replaced{proof}
		close(n.failed)
		n.logger.Warn("this node was removed from the cluster; it comes back emptied", "say", proof.Witnesses(), "as", proof.Next())
		n.stop()
	})
}
