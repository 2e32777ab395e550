package node

import (
	"errors"
	"math/rand/v2"
	"testing"

	"dems"
)

func digestOf(number uint64) dems.Digest { return dems.Digest{byte(number), byte(number >> 8), 1} }

func TestHistoryForgetsTheOldest(t *testing.T) {
	h := newHistory(4)
	if _, known := h.at(0); known {
		t.Error("an empty history knows something")
	}
	for _, index := range []uint64{2, 5, 6, 9, 10, 12} {
		h.add(index, digestOf(index))
	}
	for index := range uint64(20) {
		got, known := h.at(index)
		want := index == 6 || index == 9 || index == 10 || index == 12
		if known != want || known && got != digestOf(index) || !known && got != (dems.Digest{}) {
			t.Errorf("index %d: %v %v", index, got, known)
		}
	}
}

func TestHistoryAfterChanges(t *testing.T) {
	h := newHistory(4)
	for _, index := range []uint64{2, 5, 6, 9, 10, 12} {
		h.add(index, digestOf(index))
	}
	h.add(12, digestOf(700)) // memory had changed by itself
	if got, known := h.at(12); !known || got != digestOf(700) {
		t.Errorf("%v %v", got, known)
	}
	if got, known := h.at(9); !known || got != digestOf(9) {
		t.Errorf("%v %v", got, known)
	}
	h.restored(12, digestOf(800))
	h.add(15, digestOf(15))
	for index, want := range map[uint64]dems.Digest{9: {}, 10: {}, 12: digestOf(800), 15: digestOf(15)} {
		if got, known := h.at(index); got != want || known == (want == dems.Digest{}) {
			t.Errorf("index %d: %v %v", index, got, known)
		}
	}
}

// TestHistoryLikeAMap compares with a map that forgets nothing.
func TestHistoryLikeAMap(t *testing.T) {
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		size := 1 + random.IntN(9)
		h, all, order, index := newHistory(size), make(map[uint64]dems.Digest), []uint64(nil), uint64(0)
		for step := range uint64(60) {
			restored := random.IntN(10) == 0
			if gap := random.Uint64N(3); gap > 0 || restored {
				index += gap
				if restored {
					order = nil
				}
			}
			if len(order) == 0 || order[len(order)-1] != index {
				order = append(order, index)
			}
			all[index] = digestOf(step + 1)
			if restored {
				h.restored(index, all[index])
			} else {
				h.add(index, all[index])
			}
			held := make(map[uint64]bool)
			for _, index := range order[max(0, len(order)-size):] {
				held[index] = true
			}
			for index := range index + 2 {
				if got, known := h.at(index); known != held[index] || known && got != all[index] {
					t.Fatalf("seed %d, step %d, index %d: %v %v, want %v %v", seed, step, index, got, known, all[index], held[index])
				}
			}
		}
	}
}

func TestStateAtOfANodeThatHasFailedOrStopped(t *testing.T) {
	n := &Node{state: &stateMachine{history: newHistory(2)}, failed: make(chan struct{}), stopped: make(chan struct{})}
	n.state.history.add(7, digestOf(7))
	expect := func(index uint64, want dems.Digest, because error) {
		t.Helper()
		got, err := n.StateAt(t.Context(), index)
		refused, ok := errors.AsType[*dems.ReplicaError](err)
		if got != want || ok != (because != nil) || ok && (refused.Kind != dems.NotReady || !errors.Is(err, because)) {
			t.Errorf("index %d: %v %v", index, got, err)
		}
	}
	expect(7, digestOf(7), nil)
	expect(8, dems.Digest{}, errNotApplied)
	close(n.stopped)
	expect(7, dems.Digest{}, errStopping)
	close(n.failed)
	expect(7, dems.Digest{}, errFailed)
}
