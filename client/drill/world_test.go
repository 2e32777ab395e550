package drill

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dems"
	"dems/client"
	"dems/client/drill/history"
	"dems/client/drill/report"
	"dems/client/drill/traffic"
)

// How long things take in the played cluster.
const (
	electionTakes = 80 * time.Millisecond
	startTakes    = 200 * time.Millisecond
	convictTakes  = 30 * time.Millisecond
	removeTakes   = 40 * time.Millisecond
	rejoinTakes   = 700 * time.Millisecond
	statusTakes   = 500 * time.Millisecond // where a node does not answer
	cutTakes      = 50 * time.Millisecond
)

// actor is a node of the played cluster.
type actor struct {
	id          dems.NodeID
	incarnation uint64
	down        bool // killed, or not yet up again
	paused      bool
	cut         bool
	out         bool // removed, and not a voter again
	quarantined bool
	removals    int
	wrong       bool
	digest      string // where it is not that of the others
}

func (a *actor) answers() bool { return !a.down && !a.paused && !a.cut }

// world is a played cluster: what a drill asks of front ends, the processes, and the clients. It lives in a bubble of
// testing/synctest.
type world struct {
	t        *testing.T
	recorder *history.Recorder

	mu        sync.Mutex
	actors    []*actor
	leader    dems.NodeID
	term      uint64
	index     uint64
	incidents []client.Incident
	counts    traffic.Counts
	done      []string                      // what was done to it
	refuses   map[string]error              // what fails, by the beginning of what is done
	hook      func(done string)             // called with what is done
	ignores   map[dems.FaultKind]bool       // faults that have no effect
	elects    bool                          // another leader is elected where one is missing
	frozen    bool                          // clients are not answered
	blames    dems.NodeID                   // who is accused whenever something is done
	full      bool                          // the history is full
	findings  []report.Invariant            // of the load
	notes     []string                      // of the load
	settles   error                         // what Settle returns
	ran       bool                          // the load has run and ended
	tampers   func(nodes []client.NodeView) // changes what is seen of the nodes
	timers    []*time.Timer                 // of what is still to come
	serves    error                         // what Serves returns
}

func newWorld(t *testing.T, nodes int) *world {
	w := &world{t: t, leader: "n1", term: 2, index: 10, elects: true, refuses: map[string]error{}, ignores: map[dems.FaultKind]bool{}}
	for number := 1; number <= nodes; number++ {
		w.actors = append(w.actors, &actor{id: dems.NodeID(fmt.Sprintf("n%d", number)), incarnation: 1})
	}
	w.tell(dems.LeaderChangeIncident, w.actors[0], "leads in term 2")
	return w
}

// drill returns a drill of the world.
func (w *world) drill(config Config) *drill {
	config.Target, config.Endpoints = w, []string{"http://127.0.0.1:1"}
	if config.Seed == 0 {
		config.Seed = 7
	}
	if err := config.Validate(); err != nil {
		w.t.Fatal(err)
	}
	d := newDrill(config.withDefaults(), nil)
	w.recorder = d.recorder
	d.api, d.watch = w, newWatch(w, d.recorder.Elapsed)
	d.prepare = func(context.Context) (load, error) { return w, w.does("prepare") }
	d.judge = func(context.Context, []history.Operation) Judgement {
		return Judgement{Histories: report.Histories{Checked: 1}, Wrong: report.Invariant{Name: "wrong answers"}, Order: judgeOrder(nil)}
	}
	return d
}

// does notes that something is done, and returns why it fails. The caller does not hold the mutex.
func (w *world) does(format string, arguments ...any) error {
	what := fmt.Sprintf(format, arguments...)
	w.mu.Lock()
	w.done = append(w.done, what)
	hook := w.hook
	var err error
	for beginning, failure := range w.refuses {
		if strings.HasPrefix(what, beginning) {
			err = failure
		}
	}
	if w.blames != "" {
		w.tell(dems.AccusationIncident, w.actor(w.blames), "is said to be wrong")
	}
	w.mu.Unlock()
	if hook != nil {
		hook(what)
	}
	return err
}

// later does something after a time, with the mutex.
func (w *world) later(after time.Duration, do func()) {
	w.timers = append(w.timers, time.AfterFunc(after, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		do()
	}))
}

func (w *world) actor(id dems.NodeID) *actor {
	at := slices.IndexFunc(w.actors, func(a *actor) bool { return a.id == id })
	if at < 0 {
		w.t.Errorf("no node %s", id)
		return &actor{}
	}
	return w.actors[at]
}

// tell has an incident happen.
func (w *world) tell(kind dems.IncidentKind, of *actor, detail string) {
	w.index++
	w.incidents = append(w.incidents, client.Incident{
		Sequence: w.index, Time: time.Now(), Kind: kind.String(), Node: of.id, Incarnation: of.incarnation, Detail: detail,
	})
}

// missing has another node lead soon if the leader does not answer any more.
func (w *world) missing() {
	w.later(electionTakes, func() {
		if !w.elects || w.actor(w.leader).answers() && !w.actor(w.leader).out {
			return
		}
		for _, a := range w.actors {
			if a.answers() && !a.out && a.id != w.leader {
				w.leads(a)
				return
			}
		}
	})
}

func (w *world) leads(a *actor) {
	w.leader, w.term = a.id, w.term+1
	w.tell(dems.LeaderChangeIncident, a, fmt.Sprintf("leads in term %d", w.term))
}

// What follows are the front ends.

func (w *world) ClusterStatus(ctx context.Context) (*client.ClusterView, error) {
	w.mu.Lock()
	waits := slices.ContainsFunc(w.actors, func(a *actor) bool { return !a.answers() })
	w.mu.Unlock()
	if waits && wait(ctx, statusTakes) != nil {
		return nil, &client.Error{Code: dems.Unavailable, Detail: "no front end answered in time"}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	view := &client.ClusterView{Leader: w.leader, Term: w.term}
	for _, a := range w.actors {
		node := client.NodeView{
			ID: a.id, Incarnation: a.incarnation, State: healthy, Suffrage: dems.Voter, Applied: w.index,
			Digest: fmt.Sprintf("%032d", w.index),
		}
		if a.digest != "" {
			node.Digest = a.digest
		}
		switch {
		case a.out:
			node.State, node.Suffrage = "replacing", dems.None
		case !a.answers():
			node.State = "down"
		}
		view.Nodes = append(view.Nodes, node)
	}
	if w.tampers != nil {
		w.tampers(view.Nodes)
	}
	return view, nil
}

func (w *world) Incidents(_ context.Context, from uint64) (*client.IncidentList, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := &client.IncidentList{}
	for _, incident := range w.incidents {
		if incident.Sequence >= from {
			list.Incidents = append(list.Incidents, incident)
		}
	}
	return list, nil
}

func (w *world) TransferLeadership(_ context.Context, to dems.NodeID) (*client.Transferred, error) {
	if err := w.does("lead %s", to); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.later(time.Millisecond, func() { w.leads(w.actor(to)) })
	return &client.Transferred{Leader: to}, nil
}

func (w *world) ReplaceNode(_ context.Context, id dems.NodeID) (*client.Replacing, error) {
	if err := w.does("replace %s", id); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tell(dems.ConvictionIncident, w.actor(id), "asked for by an operator")
	w.rejoin(w.actor(id))
	return &client.Replacing{}, nil
}

func (w *world) InjectFault(_ context.Context, id dems.NodeID, fault dems.Fault) (*client.Injected, error) {
	what := fmt.Sprintf("%s %s", fault.Kind, id)
	if fault.Kind == dems.Partition {
		what += fmt.Sprintf(" %s %s", fault.Direction, strings.Join(fault.Peers, ","))
	}
	if problem := fault.Check(); problem != "" {
		w.t.Errorf("%s: %s", what, problem)
	}
	if err := w.does("%s", what); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.actor(id)
	switch fault.Kind {
	case dems.WrongResults, dems.WrongState:
		if !w.ignores[fault.Kind] {
			a.wrong = true
			a.digest = "wrong"
			w.later(convictTakes, func() { w.convict(a) })
		}
	case dems.Partition:
		w.later(cutTakes, func() {
			if a.cut = true; a.id == w.leader {
				w.missing()
			}
		})
		w.later(fault.Lasts, func() { a.cut = false })
	}
	return &client.Injected{}, nil
}

func (w *world) EndFaults(context.Context) (*client.FaultsEnded, error) {
	if err := w.does("end faults"); err != nil {
		return nil, err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.actors {
		a.cut = false
	}
	return &client.FaultsEnded{}, nil
}

// convict has a node that is wrong convicted, removed and, unless that was too often, added again.
func (w *world) convict(a *actor) {
	w.tell(dems.ConvictionIncident, a, "")
	w.later(removeTakes, func() {
		w.tell(dems.RemovalIncident, a, "")
		if a.out = true; a.id == w.leader {
			w.leads(w.actors[(slices.Index(w.actors, a)+1)%len(w.actors)])
		}
		if a.removals++; a.removals > dems.MaxReplacementsPerHour {
			a.quarantined = true
			w.tell(dems.QuarantineIncident, a, "")
		}
		a.incarnation, a.digest = a.incarnation+1, "" // it is emptied
		if !a.quarantined {
			w.rejoin(a)
		}
	})
}

func (w *world) rejoin(a *actor) {
	w.later(rejoinTakes, func() {
		a.out, a.wrong, a.quarantined, a.digest = false, false, false, ""
		w.tell(dems.ReadditionIncident, a, "")
	})
}

// What follows is the processes.

func (w *world) Description() string { return "a played cluster" }

func (w *world) Nodes() []dems.NodeID {
	var all []dems.NodeID
	for _, a := range w.actors {
		all = append(all, a.id)
	}
	return all
}

func (w *world) Serves([]string) error { return w.serves }

// change notes that something is done to a node's process, and does it.
func (w *world) change(what string, id dems.NodeID, do func(a *actor)) error {
	if err := w.does("%s %s", what, id); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.actor(id)
	do(a)
	if a.id == w.leader && !a.answers() {
		w.missing()
	}
	return nil
}

func (w *world) Kill(_ context.Context, id dems.NodeID) error {
	return w.change("kill", id, func(a *actor) { a.down = true })
}

func (w *world) Start(_ context.Context, id dems.NodeID) error {
	return w.change("start", id, func(a *actor) { w.later(startTakes, func() { a.down = false }) })
}

func (w *world) Restart(_ context.Context, id dems.NodeID) error {
	return w.change("restart", id, func(a *actor) {
		a.down = true
		w.later(startTakes, func() { a.down = false })
	})
}

func (w *world) Pause(_ context.Context, id dems.NodeID) error {
	return w.change("pause", id, func(a *actor) { a.paused = true })
}

func (w *world) Resume(_ context.Context, id dems.NodeID) error {
	return w.change("resume", id, func(a *actor) { a.paused = false })
}

func (w *world) Heal(context.Context) error {
	if err := w.does("heal"); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.actors {
		a.down, a.paused = false, false
	}
	return nil
}

// networked is a world whose nodes can be disconnected.
type networked struct{ *world }

func (w networked) Disconnect(_ context.Context, id dems.NodeID) error {
	return w.change("disconnect", id, func(a *actor) { a.cut = true })
}

func (w networked) Connect(_ context.Context, id dems.NodeID) error {
	return w.change("connect", id, func(a *actor) { a.cut = false })
}

// What follows is the clients.

func (w *world) Run(ctx context.Context) error {
	defer func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.ran = true
	}()
	for wait(ctx, 5*time.Millisecond) == nil {
		w.mu.Lock()
		full, leader := w.full, w.actor(w.leader)
		served := leader.answers() && !leader.out && !w.frozen
		if served {
			w.counts.Acknowledged++
		}
		w.mu.Unlock()
		if full {
			return history.ErrFull
		}
		pending, err := w.recorder.Begin(0, 0, dems.Command{Op: dems.BookEvent, Key: "k"})
		if err != nil {
			return err
		}
		for !served && ctx.Err() == nil { // clients wait, and are answered when somebody leads
			_ = wait(ctx, time.Millisecond)
			w.mu.Lock()
			leader := w.actor(w.leader)
			served = leader.answers() && !leader.out && !w.frozen
			w.mu.Unlock()
		}
		if served {
			pending.Answer(dems.Result{Outcome: dems.Booked})
		} else {
			pending.Lose(ctx.Err())
		}
	}
	return nil
}

func (w *world) Settle(context.Context) error {
	if !w.ran {
		w.t.Error("settling while the clients still work")
	}
	return w.settles
}

func (w *world) Clear(context.Context) error { return w.does("clear") }

func (w *world) Counts() traffic.Counts {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.counts
}

func (w *world) Findings() []report.Invariant { return w.findings }

func (w *world) Notes() []string { return w.notes }

// did returns what was done to the world, without what is done in every drill.
func (w *world) did() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.done), func(what string) bool {
		return slices.Contains([]string{"prepare", "clear"}, what) || strings.HasPrefix(what, "slow ")
	})
}

// stop ends what is still to come.
func (w *world) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, timer := range w.timers {
		timer.Stop()
	}
}
