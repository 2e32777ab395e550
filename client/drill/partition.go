package drill

import (
	"context"
	"fmt"
	"time"

	"dems"
	"dems/client/drill/target"
)

const (
	// cutLasts is how long a node is cut off that nobody can reach to end it.
	cutLasts = 2 * time.Second
	// linesLast is how long lines are cut at most whose nodes the front ends still reach.
	linesLast = time.Minute
)

// partition cuts lines of the leader, in turns.
func partition(ctx context.Context, r *round) error {
	switch r.turn(5) {
	case 0:
		return cutAlone(ctx, r)
	case 1:
		return cutMinority(ctx, r)
	case 2:
		return cutOneWay(ctx, r, dems.Outgoing, "lost what %s sends")
	case 3:
		return cutOneWay(ctx, r, dems.Incoming, "lost what is sent to %s")
	default:
		return cutFromFrontEnds(ctx, r)
	}
}

// cutAlone cuts the leader off from everybody: where the target has networks that it can take away, really.
func cutAlone(ctx context.Context, r *round) error {
	network, ok := r.config.Target.(target.Network)
	if !ok {
		return cutOneWay(ctx, r, dems.BothWays, "cut %s off from everybody")
	}
	leader := r.leader()
	r.breaks(leader, "disconnected "+r.called(leader)+" from its network")
	err := network.Disconnect(ctx, leader)
	if err == nil {
		err = r.awaitElection(ctx)
	}
	if err == nil {
		err = r.awaitDown(ctx, leader)
	}
	if err == nil {
		err = r.awaitAnswers(ctx)
	}
	if err == nil {
		err = network.Connect(ctx, leader)
	}
	if err != nil {
		return err
	}
	return r.awaitRepaired(ctx)
}

// cutMinority cuts the leader, and as many others as are still no majority with it, off from the other nodes. Front ends reach
// both sides.
func cutMinority(ctx context.Context, r *round) error {
	leader := r.leader()
	others := r.followers()
	r.random.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	beside := (len(r.nodes)-1)/2 - 1
	minority := append([]dems.NodeID{leader}, others[:beside]...)
	fault := dems.Fault{Kind: dems.Partition, Lasts: linesLast}
	for _, id := range others[beside:] {
		fault.Peers = append(fault.Peers, string(id))
	}
	what := "cut " + r.called(leader)
	if beside > 0 {
		what += " with " + listed(minority[1:])
	}
	r.breaks(leader, what+" off from the majority of the nodes")
	for i := range minority { // the leader last: until then nothing is lost that matters
		if err := r.inject(ctx, minority[len(minority)-1-i], fault); err != nil {
			return err
		}
	}
	err := r.awaitElection(ctx)
	if err == nil {
		err = r.awaitAnswers(ctx)
	}
	if err == nil {
		err = r.endFaults(ctx)
	}
	if err != nil {
		return err
	}
	return r.awaitRepaired(ctx)
}

// cutOneWay loses what the leader sends, or what is sent to it, or both, whoever is at the other end.
func cutOneWay(ctx context.Context, r *round, direction dems.Direction, what string) error {
	peers := []string{dems.FrontEnds}
	for _, id := range r.followers() {
		peers = append(peers, string(id))
	}
	return cutForAWhile(ctx, r, dems.Fault{Direction: direction, Peers: peers}, what)
}

// cutFromFrontEnds cuts the leader off from the front ends, and not from the nodes, which go on following it.
func cutFromFrontEnds(ctx context.Context, r *round) error {
	return cutForAWhile(ctx, r, dems.Fault{Peers: []string{dems.FrontEnds}}, "cut %s off from the front ends")
}

// cutForAWhile cuts lines of the leader, that to the front ends among them. It ends by itself, because nobody can tell the node to end
// it. An election is not waited for longer than that: where there was none, the leader had not been missed before it was back.
func cutForAWhile(ctx context.Context, r *round, fault dems.Fault, what string) error {
	leader := r.leader()
	fault.Kind, fault.Lasts = dems.Partition, cutLasts
	r.breaks(leader, fmt.Sprintf(what, r.called(leader)))
	if err := r.inject(ctx, leader, fault); err != nil {
		return err
	}
	if err := wait(ctx, cutLasts); err != nil {
		return err
	}
	r.healed()
	if err := r.awaitAnswers(ctx); err != nil {
		return err
	}
	return r.awaitRepaired(ctx)
}
