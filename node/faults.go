package node

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"dems"
)

// errReleased is what a call gets that was held by a fault which was then ended. It was not looked at.
var errReleased = errors.New("a fault kept the node from answering")

// faults are the ways in which a node misbehaves in a drill. Nil is a node that was not started for drills: it never does.
// They are not written down anywhere: they end with the process, and with the node's life in it. Its methods are safe for
// concurrent use.
type faults struct {
	corrupt func(seed uint64) string
	network network

	mu     sync.Mutex
	active map[dems.FaultKind]*drill // wrong-results, slow and mute, at most one of each
}

// network is what lies between the node and others. Drills cut and slow it: the node itself knows nothing of that, and its
// work goes on as it does where a cable is cut.
type network interface {
	Impair(ctx context.Context, fault dems.Fault) error // the error says for people why not
	Heal()
}

// drill is a fault that lasts.
type drill struct {
	delay   time.Duration
	left    int           // requests or calls that it still spoils; negative: no limit
	over    chan struct{} // closed when it spoils nothing any more
	cleared chan struct{} // closed when it was ended and not merely used up
}

// newFaults returns the faults of a node, nil unless it was started for drills. Corrupt changes the state as the seed says,
// without anybody being told, and returns what it did.
func newFaults(enabled bool, corrupt func(seed uint64) string, network network) *faults {
	if !enabled {
		return nil
	}
	return &faults{corrupt: corrupt, network: network, active: make(map[dems.FaultKind]*drill)}
}

// inject starts a fault, in place of one of the same kind, or ends all. It returns what it did to the state, if anything.
func (f *faults) inject(ctx context.Context, fault dems.Fault) (done string, err error) {
	problem := fault.Check()
	if f == nil {
		problem = "The node was not started for drills: start it with --enable-faults."
	}
	if problem != "" {
		return "", replicaError(dems.BadRequest, errors.New(problem))
	}
	switch fault.Kind {
	case dems.NoFault:
		f.clear()
		return "", nil
	case dems.WrongState:
		return f.corrupt(rand.Uint64()), nil
	case dems.Partition, dems.Latency:
		if err := f.network.Impair(ctx, fault); err != nil {
			return "", replicaError(dems.BadRequest, err)
		}
		return "", nil
	}
	started := &drill{delay: fault.Delay, left: fault.Requests, over: make(chan struct{}), cleared: make(chan struct{})}
	if fault.Requests == 0 {
		started.left = -1
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.active[fault.Kind].end()
	f.active[fault.Kind] = started
	return "", nil
}

// clear ends all faults. A state that was altered stays so.
func (f *faults) clear() {
	f.network.Heal()
	f.mu.Lock()
	defer f.mu.Unlock()
	for kind, active := range f.active {
		active.end()
		delete(f.active, kind)
	}
}

// lasts tells whether a fault still spoils anything. Nil is none.
func (d *drill) lasts() bool { return d != nil && d.left != 0 }

// take uses a fault up by as much of what is wanted as is left, and returns how much that is.
func (d *drill) take(wanted int) int {
	if !d.lasts() || wanted <= 0 {
		return 0
	}
	if d.left < 0 {
		return wanted
	}
	taken := min(wanted, d.left)
	if d.left -= taken; d.left == 0 {
		close(d.over)
	}
	return taken
}

// end ends a fault and lets go of the calls that it holds, those that used it up included.
func (d *drill) end() {
	if d == nil {
		return
	}
	if d.left != 0 {
		d.left = 0
		close(d.over)
	}
	close(d.cleared)
}

// spoil makes the results of a batch with that many commands wrong, and the digest with them; the state is not touched.
func (f *faults) spoil(commands int, b *ballot) {
	if !f.spoils() {
		return
	}
	results, err := dems.DecodeResults(b.results)
	if err != nil {
		return
	}
	count := f.takeRequests(min(commands, len(results)))
	if count == 0 {
		return
	}
	for i := range count {
		results[i] = wrong(&results[i], b.vote.Node)
	}
	b.results = dems.AppendResults(nil, results)
	b.vote.Results = dems.DigestOf(b.results)
}

// spoilReply makes the answers to the reading operations among queries wrong. The versions stay.
func (f *faults) spoilReply(queries []dems.Query, reply *dems.QueryReply) {
	if !f.spoils() {
		return
	}
	for i := range min(len(queries), len(reply.Answers)) {
		if queries[i].Kind != dems.OperationQuery {
			continue
		}
		results, err := dems.DecodeResults(reply.Answers[i].Result)
		if err != nil || len(results) != 1 || f.takeRequests(1) == 0 {
			continue
		}
		results[0] = wrong(&results[0], reply.Node)
		reply.Answers[i].Result = dems.AppendResults(nil, results)
	}
}

// spoils tells whether answers are wrong at present.
func (f *faults) spoils() bool {
	if f == nil {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.active[dems.WrongResults].lasts()
}

func (f *faults) takeRequests(wanted int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.active[dems.WrongResults].take(wanted)
}

// refusals are what nodes answer instead of what is right.
var refusals = [...]dems.Code{dems.EventFull, dems.EventNotFound, dems.MonthlyLimit, dems.NotBooked, dems.AlreadyBooked}

// wrong returns a refusal that could be true but is not. Nodes with neighbouring names give different ones: faults are taken
// to be independent, and two nodes that are wrong in the same way would be a majority of three.
func wrong(right *dems.Result, node dems.NodeID) dems.Result {
	sum := 0
	for i := range len(node) {
		sum += int(node[i])
	}
	code := refusals[sum%len(refusals)]
	if right.Code == code {
		code = dems.SameEvent
	}
	return dems.Result{Code: code, Sequence: right.Sequence}
}

// hold keeps a call waiting as long as the node is slow, and one that the node is mute to until ctx ends or the fault is
// ended. The call must not be answered if an error is returned.
func (f *faults) hold(ctx context.Context) error {
	if f == nil {
		return nil
	}
	var delay time.Duration
	var released <-chan struct{}
	f.mu.Lock()
	if slow := f.active[dems.Slow]; slow.take(1) > 0 {
		delay = slow.delay
	}
	if mute := f.active[dems.Mute]; mute.take(1) > 0 {
		released = mute.cleared
	}
	f.mu.Unlock()
	return linger(ctx, delay, released)
}

// holdMessage is hold for one message of a stream that was begun before. It uses no fault up, and ends with it.
func (f *faults) holdMessage(ctx context.Context) error {
	if f == nil {
		return nil
	}
	var delay time.Duration
	var released <-chan struct{}
	f.mu.Lock()
	if slow := f.active[dems.Slow]; slow.lasts() {
		delay = slow.delay
	}
	if mute := f.active[dems.Mute]; mute.lasts() {
		released = mute.over
	}
	f.mu.Unlock()
	return linger(ctx, delay, released)
}

// linger waits for a time and then, if there is such a channel, until it is closed, which is an error.
func linger(ctx context.Context, delay time.Duration, released <-chan struct{}) error {
	if delay > 0 {
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if released == nil {
		return nil
	}
	select {
	case <-released:
		return errReleased
	case <-ctx.Done():
		return ctx.Err()
	}
}
