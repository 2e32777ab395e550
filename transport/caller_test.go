package transport

import (
	"context"
	"sync"
	"testing"

	"dems"
)

// asked is a handler that keeps who called.
type asked struct {
	Handler // every method but these
	mutex   sync.Mutex
	callers []caller
}

func (a *asked) note(ctx context.Context) {
	role, name, ok := Caller(ctx)
	a.mutex.Lock()
	defer a.mutex.Unlock()
	if !ok {
		role = "nobody"
	}
	a.callers = append(a.callers, caller{role, name})
}

func (a *asked) Propose(ctx context.Context, entry []byte) (dems.BatchReply, error) {
	a.note(ctx)
	return echo(ctx, entry)
}

func (a *asked) Votes(ctx context.Context, _ uint64, _ func([]dems.Vote) error) error {
	a.note(ctx)
	return &dems.ReplicaError{Kind: dems.NotReady}
}

func TestHandlersKnowWhoCalls(t *testing.T) {
	handler := &asked{}
	node := start(t, "n1", Config{})
	node.Serve(handler)
	for _, name := range []string{"fe1", "n2", "n1"} {
		replica := start(t, name, Config{}).Replica(node.Addr().String())
		for range 2 { // on one connection
			if _, err := replica.Propose(t.Context(), []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		kind(t, replica.Votes(t.Context(), 1, nil), dems.NotReady)
	}
	handler.mutex.Lock()
	defer handler.mutex.Unlock()
	want := []caller{{RoleFrontEnd, "fe1"}, {RoleNode, "n2"}, {RoleNode, "n1"}}
	if len(handler.callers) != 9 {
		t.Fatalf("got %v", handler.callers)
	}
	for i, got := range handler.callers {
		if got != want[i/3] {
			t.Errorf("call %d came from %v, want %v", i, got, want[i/3])
		}
	}
}

func TestCallsInsideTheProcessHaveNoCaller(t *testing.T) {
	if role, name, ok := Caller(t.Context()); ok || role != "" || name != "" {
		t.Errorf("got %s %s", role, name)
	}
}
