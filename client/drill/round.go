package drill

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"dems"
	"dems/client"
	"dems/client/drill/report"
)

const (
	// effectTimeout is how long what a failure brings about may take to be seen: an election, a conviction, answers.
	effectTimeout = 30 * time.Second
	// wholeTimeout is how long the cluster may take to be whole again, the copying of a node's state included.
	wholeTimeout = 2 * time.Minute
	// healTimeout bounds mending what was broken.
	healTimeout = time.Minute
	// handOverTimeout is how long one try may take to have a node lead.
	handOverTimeout = 3 * time.Second
	// answersInterval is how often it is looked whether clients were answered.
	answersInterval = 10 * time.Millisecond
)

// round is one round of a scenario.
type round struct {
	*drill
	record report.Round
	broken bool          // something was done
	at     time.Duration // when it was broken
	mended time.Duration // when it was mended; 0: not yet
	term   uint64        // in which somebody led before
	since  uint64        // sequence of the last incident before
}

// turn returns which of a number of variants the round has, from 0.
func (r *round) turn(of int) int { return (r.record.Number - 1) % of }

// leader returns who leads. A round begins when that is known.
func (r *round) leader() dems.NodeID {
	var leader dems.NodeID
	r.watch.read(func(s *sight) { leader = s.view.Leader })
	return leader
}

// followers returns the nodes that do not lead.
func (r *round) followers() []dems.NodeID {
	leader := r.leader()
	return slices.DeleteFunc(slices.Clone(r.nodes), func(id dems.NodeID) bool { return id == leader })
}

// follower returns any of the nodes that do not lead.
func (r *round) follower() dems.NodeID {
	followers := r.followers()
	return followers[r.random.IntN(len(followers))]
}

// anybody returns any node.
func (r *round) anybody() dems.NodeID { return r.nodes[r.random.IntN(len(r.nodes))] }

// otherThan returns any node but one.
func (r *round) otherThan(id dems.NodeID) dems.NodeID {
	at := slices.Index(r.nodes, id)
	return r.nodes[(at+1+r.random.IntN(len(r.nodes)-1))%len(r.nodes)]
}

// leastRemoved returns any of the nodes that were removed least often within the last hour.
func (r *round) leastRemoved() dems.NodeID {
	least := slices.Clone(r.nodes)
	r.random.Shuffle(len(least), func(i, j int) { least[i], least[j] = least[j], least[i] })
	slices.SortStableFunc(least, func(a, b dems.NodeID) int { return r.removals[a] - r.removals[b] })
	return least[0]
}

// lifeOf returns which life of a node is the present one.
func (r *round) lifeOf(id dems.NodeID) life {
	of := life{node: id}
	r.watch.read(func(s *sight) { of.incarnation = s.node(id).Incarnation })
	return of
}

// called returns what people are told of a node: its part in the cluster and its ID.
func (r *round) called(id dems.NodeID) string {
	if id == r.leader() {
		return "the leader " + string(id)
	}
	return "the follower " + string(id)
}

// listed names nodes for people: n1, n2 and n3.
func listed(ids []dems.NodeID) string {
	names := make([]string, len(ids))
	for i, id := range ids {
		names[i] = string(id)
	}
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// breaks notes what is about to be broken, for people: times count from now on.
func (r *round) breaks(id dems.NodeID, what string) {
	r.watch.read(func(s *sight) { r.term, r.since = s.term(), s.last() })
	r.broken, r.at = true, r.recorder.Elapsed()
	r.record.Node, r.record.What, r.record.At = string(id), what, r.at.Seconds()
	r.doing("%s", r.record.What)
}

// healed notes that it was mended.
func (r *round) healed() {
	r.mended = r.recorder.Elapsed()
	r.record.HealedAt = r.mended.Seconds()
}

// inject makes a node, or its network, misbehave.
func (r *round) inject(ctx context.Context, id dems.NodeID, fault dems.Fault) error {
	if _, err := r.api.InjectFault(ctx, id, fault); err != nil {
		return fmt.Errorf("%s at %s: %w", fault.Kind, id, err)
	}
	return nil
}

// endFaults ends what inject began, and notes that it was mended.
func (r *round) endFaults(ctx context.Context) error {
	if err := r.drill.endFaults(ctx); err != nil {
		return err
	}
	r.healed()
	return nil
}

// lead hands leadership over to a node, and waits until it leads and all are well. Where somebody else is elected instead, as may
// happen where processors are scarce, it is tried again.
func (r *round) lead(ctx context.Context, id dems.NodeID) error {
	if r.leader() == id {
		return nil
	}
	r.doing("handing leadership over to %s", id)
	limited, cancel := context.WithTimeout(ctx, effectTimeout)
	defer cancel()
	for {
		err := r.handOver(limited, id)
		if err == nil {
			return r.whole(ctx, r.recorder.Elapsed())
		}
		if limited.Err() != nil || dems.CodeOf(err) == dems.NotFound {
			return fmt.Errorf("hand leadership over to %s: %w", id, err)
		}
	}
}

// handOver tries once to have a node lead.
func (r *round) handOver(ctx context.Context, id dems.NodeID) error {
	ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	if _, err := r.api.TransferLeadership(ctx, id); err != nil {
		_ = wait(ctx, askAgain) // the error is what has to be told
		return err
	}
	return r.watch.await(ctx, handOverTimeout, notDone, fmt.Sprintf("%s leads", id), func(s *sight) string {
		if s.view.Leader != id || s.leader() != id {
			return fmt.Sprintf("the front end names %q, and %q was elected last", s.view.Leader, s.leader())
		}
		return ""
	})
}

// awaitElection waits until somebody leads in a later term than before.
func (r *round) awaitElection(ctx context.Context) error {
	return r.watch.await(ctx, effectTimeout, notResumed, "another leader, after the drill "+r.record.What, func(s *sight) string {
		if _, elected := s.electedAfter(r.term); !elected {
			return fmt.Sprintf("nobody leads in a later term than %d", r.term)
		}
		return ""
	})
}

// awaitDown waits until a node is missed.
func (r *round) awaitDown(ctx context.Context, id dems.NodeID) error {
	return r.watch.await(ctx, effectTimeout, notDone, string(id)+" is missed", func(s *sight) string {
		if state := s.node(id).State; state != "down" || s.asked <= r.at {
			return fmt.Sprintf("%s is %s", id, state)
		}
		return ""
	})
}

// awaitIncident waits for an incident about a node that is wrong, and returns it.
func (r *round) awaitIncident(ctx context.Context, kind dems.IncidentKind, of life) (seenIncident, error) {
	var found seenIncident
	limit := effectTimeout
	if kind == dems.ReadditionIncident {
		limit = wholeTimeout
	}
	what := fmt.Sprintf("the %s of %s, incarnation %d, after the drill %s", kind, of.node, of.incarnation, r.record.What)
	err := r.watch.await(ctx, limit, notReplaced, what, func(s *sight) string {
		incident, happened := s.incident(kind, of, r.since)
		if !happened {
			return "no such incident"
		}
		found = incident
		return ""
	})
	return found, err
}

// awaitAnswers waits until so many further operations were answered that whatever the failure delayed is over.
func (r *round) awaitAnswers(ctx context.Context) error {
	return r.drill.awaitAnswers(ctx, r.record.What)
}

// awaitRepaired notes that what was broken is mended, unless it was before, waits until the cluster is whole, and notes how long it
// took since the failure.
func (r *round) awaitRepaired(ctx context.Context) error {
	if err := r.awaitWhole(ctx); err != nil {
		return err
	}
	if r.record.Node != "" {
		r.record.RepairMS = milliseconds(r.recorder.Elapsed() - r.at)
	}
	return nil
}

// awaitWhole is awaitRepaired where nobody had to come back.
func (r *round) awaitWhole(ctx context.Context) error {
	if r.mended == 0 || r.record.Node == "" {
		r.healed()
	}
	return r.whole(ctx, r.mended)
}

// whole waits until the cluster, as it is after a time, is whole: every node has caught up with what there was when that was seen
// first.
func (d *drill) whole(ctx context.Context, after time.Duration) error {
	least := uint64(0)
	return d.watch.await(ctx, wholeTimeout, notResumed, "every node is a healthy voter", func(s *sight) string {
		if s.asked <= after {
			return "nothing was seen of the nodes since"
		}
		if least == 0 {
			least = s.applied()
		}
		return s.unwell(d.nodes, least)
	})
}

// awaitAnswers waits until clients are answered.
func (d *drill) awaitAnswers(ctx context.Context, what string) error {
	ticker := time.NewTicker(answersInterval)
	defer ticker.Stop()
	timer := time.NewTimer(effectTimeout)
	defer timer.Stop()
	first := answered(d.load)
	wanted := d.enough()
	for {
		more := answered(d.load) - first
		if more >= wanted {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-timer.C:
			return &missed{of: notResumed, what: "clients are answered after the drill " + what, limit: effectTimeout,
				reason: fmt.Sprintf("%d answers, %d wanted", more, wanted)}
		case <-ticker.C:
		}
	}
}

// enough is how many answers show that clients are served: about those of a quarter of a second.
func (d *drill) enough() uint64 { return uint64(min(max(d.config.Rate/4, 5), 100)) }

// endFaults ends all faults that can be ended from here. Those of nodes that cannot be reached end by themselves.
func (d *drill) endFaults(ctx context.Context) error {
	_, err := d.api.EndFaults(ctx)
	if failed, ok := errors.AsType[*client.Error](err); ok && failed.Code == dems.NotFound && !d.faults {
		return nil // nothing takes faults, so there are none
	}
	if err != nil {
		return fmt.Errorf("end all faults: %w", err)
	}
	return nil
}

// heal mends whatever is broken, whatever has become of ctx.
func (d *drill) heal(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), healTimeout)
	defer cancel()
	return errors.Join(d.config.Target.Heal(ctx), d.endFaults(ctx))
}

// wait waits for a time.
func wait(ctx context.Context, length time.Duration) error {
	timer := time.NewTimer(length)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
