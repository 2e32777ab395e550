package drill

import (
	"context"
	"slices"
	"time"

	"dems"
)

// All stands for every scenario, in turns.
const All = "all"

// scenario is one way to break a cluster.
type scenario struct {
	name string
	// about says for people what is done and what has to follow.
	about string
	// faults: nodes have to take faults, so they and the front ends have to be started for drills.
	faults bool
	// run does one round: it breaks something, waits for the effect, mends it, and waits until the cluster is whole.
	run func(ctx context.Context, r *round) error
}

// scenarios are all of them, in the order in which All has them.
var scenarios = []scenario{
	{"leader-kill", "kills the leader's process (SIGKILL). Another node leads, and the one that was killed comes back with its data.",
		false, killLeader},
	{"node-kill", "kills the process of any node, the leader's among them.",
		false, killNode},
	{"pause", "stops the leader's process without ending it (SIGSTOP; containers: pause), then a follower's, in turns, and lets it go on. The others do not wait for it.",
		false, pause},
	{"partition", "cuts lines, in turns: the leader alone from everybody; the leader, and of five nodes another one, from the other nodes but not from the front ends; " +
		"what the leader sends; what is sent to the leader; the leader from the front ends, but not from the nodes. The majority elects another leader " +
		"where it misses it, and nobody is punished for being cut off.",
		true, partition},
	{"slow-network", "delays everything that a follower sends and gets, then the leader, then all nodes, in turns.",
		true, slowNetwork},
	{"wrong-results", "has the leader answer wrongly, then a follower, in turns. Clients get the right answers; the others convict the node, and replace it.",
		true, wrongResults},
	{"wrong-state", "silently alters a record in the leader's state, then in a follower's, in turns. The others notice, convict the node, and replace it.",
		true, wrongState},
	{"rolling-restart", "restarts every node in order (SIGTERM), one after the other, each when the cluster is whole again. Leaders hand over first.",
		false, restart},
}

// Scenarios returns the names of all scenarios.
func Scenarios() []string {
	names := make([]string, len(scenarios))
	for i := range scenarios {
		names[i] = scenarios[i].name
	}
	return names
}

// About says for people what a scenario does.
func About(name string) string {
	for i := range scenarios {
		if scenarios[i].name == name {
			return scenarios[i].about
		}
	}
	return ""
}

// killLeader kills the leader.
func killLeader(ctx context.Context, r *round) error { return r.kill(ctx, r.leader()) }

// killNode kills any node.
func killNode(ctx context.Context, r *round) error { return r.kill(ctx, r.anybody()) }

// kill kills a node and starts it again once clients are answered without it.
func (r *round) kill(ctx context.Context, victim dems.NodeID) error {
	leads := victim == r.leader()
	r.breaks(victim, "killed "+r.called(victim))
	err := r.config.Target.Kill(ctx, victim)
	if err == nil && leads {
		err = r.awaitElection(ctx)
	}
	if err == nil {
		err = r.awaitAnswers(ctx)
	}
	if err == nil {
		err = r.config.Target.Start(ctx, victim)
	}
	if err != nil {
		return err
	}
	return r.awaitRepaired(ctx)
}

// pause stops a node and lets it go on once clients are answered without it.
func pause(ctx context.Context, r *round) error {
	leads := r.turn(2) == 0
	victim := r.leader()
	if !leads {
		victim = r.follower()
	}
	r.breaks(victim, "stopped "+r.called(victim))
	err := r.config.Target.Pause(ctx, victim)
	if err == nil && leads {
		err = r.awaitElection(ctx)
	}
	if err == nil {
		err = r.awaitDown(ctx, victim)
	}
	if err == nil {
		err = r.awaitAnswers(ctx)
	}
	if err == nil {
		err = r.config.Target.Resume(ctx, victim)
	}
	if err != nil {
		return err
	}
	return r.awaitRepaired(ctx)
}

// restart restarts every node, beginning with any.
func restart(ctx context.Context, r *round) error {
	first := r.random.IntN(len(r.nodes))
	order := slices.Concat(r.nodes[first:], r.nodes[:first])
	r.breaks("", "restarted "+listed(order)+", one after the other")
	for _, id := range order {
		r.doing("restarting %s", r.called(id))
		if err := r.config.Target.Restart(ctx, id); err != nil {
			return err
		}
		if err := r.awaitRepaired(ctx); err != nil {
			return err
		}
	}
	return r.awaitAnswers(ctx)
}

const (
	// slowBy and slowJitter are how late each datagram is: as between continents.
	slowBy     = 25 * time.Millisecond
	slowJitter = 10 * time.Millisecond
	// slowFor is how long it is slow at least, slowLasts after how long it ends even if nobody could say so.
	slowFor   = 2 * time.Second
	slowLasts = time.Minute
)

// slowNetwork delays what nodes send and get.
func slowNetwork(ctx context.Context, r *round) error {
	var victims []dems.NodeID
	switch r.turn(3) {
	case 0:
		victims = []dems.NodeID{r.follower()}
	case 1:
		victims = []dems.NodeID{r.leader()}
	default:
		victims = r.nodes
	}
	if len(victims) == 1 {
		r.breaks(victims[0], "delayed the network of "+r.called(victims[0]))
	} else {
		r.breaks("", "delayed the network of all nodes")
	}
	fault := dems.Fault{Kind: dems.Latency, Delay: slowBy, Jitter: slowJitter, Lasts: slowLasts}
	for _, id := range victims {
		if err := r.inject(ctx, id, fault); err != nil {
			return err
		}
	}
	err := wait(ctx, slowFor)
	if err == nil {
		err = r.awaitAnswers(ctx)
	}
	if err == nil {
		err = r.endFaults(ctx)
	}
	if err != nil {
		return err
	}
	return r.awaitWhole(ctx)
}
