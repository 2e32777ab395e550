//go:build planted

package frontend

import (
	"testing"
	"time"

	"dems/internal/planted"
)

// TestPlantedStaleRead: the only node that answers is late, and does not know of the booking that was acknowledged.
func TestPlantedStaleRead(t *testing.T) {
	defer planted.Plant(planted.StaleRead)()
	ready(t, 3, func(h *harness) {
		h.must(addEvent(1, 5), 0)
		h.must(book(1, 1), 0)
		h.wantView(h.must(getEvent(1), 0), 5, 1) // all is well, and so is the answer
		h.w.setLate(h.node(3), true)
		h.must(book(2, 1), 0)
		h.w.set(h.node(1), hanging)
		h.w.set(h.node(2), hanging)
		h.wantView(h.must(getEvent(1), time.Second), 5, 1)
	})
}
