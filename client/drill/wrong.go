package drill

import (
	"context"
	"fmt"
	"time"

	"dems"
)

// askAgain is how long a request waits that was refused for the moment.
const askAgain = 200 * time.Millisecond

// wrongResults has a node answer wrongly.
func wrongResults(ctx context.Context, r *round) error {
	return makeWrong(ctx, r, dems.WrongResults, "had %s answer wrongly")
}

// wrongState has a node's state silently altered.
func wrongState(ctx context.Context, r *round) error {
	return makeWrong(ctx, r, dems.WrongState, "altered the state of %s")
}

// makeWrong makes a node wrong, leader and follower in turns, and waits until it was convicted and votes again. Leadership is
// handed over first so that it is the turn of the node that was removed least often in the last hour: who is removed too often is
// put into quarantine. Where that happens all the same, it is let in by hand, as an operator would do.
func makeWrong(ctx context.Context, r *round, kind dems.FaultKind, what string) error {
	victim := r.leastRemoved()
	leader := victim
	if r.turn(2) == 1 {
		leader = r.otherThan(victim)
	}
	if err := r.lead(ctx, leader); err != nil {
		return err
	}
	wrong := r.lifeOf(victim)
	r.isWrong(wrong)
	r.breaks(victim, fmt.Sprintf(what, r.called(victim)))
	if err := r.inject(ctx, victim, dems.Fault{Kind: kind}); err != nil {
		return err
	}
	convicted, err := r.awaitIncident(ctx, dems.ConvictionIncident, wrong)
	if err != nil {
		return err
	}
	r.record.ConvictMS = milliseconds(convicted.at - r.at)
	if err := r.awaitReplaced(ctx, wrong); err != nil {
		return err
	}
	if err := r.endFaults(ctx); err != nil { // of a node that was replaced there is none left
		return err
	}
	return r.awaitWhole(ctx)
}

// awaitReplaced waits until a life that was convicted was removed and the next one votes.
func (r *round) awaitReplaced(ctx context.Context, wrong life) error {
	if _, err := r.awaitIncident(ctx, dems.RemovalIncident, wrong); err != nil {
		return err
	}
	r.removals[wrong.node]++
	quarantined := false
	r.watch.read(func(s *sight) { _, quarantined = s.incident(dems.QuarantineIncident, wrong, r.since) })
	if quarantined {
		// The next life is convicted at once, because that is how an operator's wish is recorded.
		r.byHand[life{wrong.node, wrong.incarnation + 1}] = true
		r.record.What += fmt.Sprintf("; quarantined, %s was let in again by hand", wrong.node)
		if err := r.replaceByHand(ctx, wrong.node); err != nil {
			return err
		}
	}
	back, err := r.awaitIncident(ctx, dems.ReadditionIncident, life{wrong.node, wrong.incarnation + 1})
	if err != nil {
		return err
	}
	r.record.RepairMS = milliseconds(back.at - r.at)
	return nil
}

// replaceByHand asks for a node to be let in again until that is taken.
func (r *round) replaceByHand(ctx context.Context, id dems.NodeID) error {
	ctx, cancel := context.WithTimeout(ctx, effectTimeout)
	defer cancel()
	for {
		_, err := r.api.ReplaceNode(ctx, id)
		if err == nil || dems.CodeOf(err) != dems.Unavailable {
			return err
		}
		if wait(ctx, askAgain) != nil {
			return err
		}
	}
}

// isWrong notes that a life is about to be made wrong: what is said of it from now on is right, and its state does not count.
func (r *round) isWrong(of life) {
	r.watch.update(func(s *sight) { s.states.except(of) })
	r.wrong[of] = true
}
