//go:build !planted

package fsm

import "dems"

// plantedCount is where the bug monthly-limit of package planted keeps its own count of a customer's foreign bookings. Without
// bugs it is nothing.
type plantedCount struct{}

func (plantedCount) add(dems.UserID, dems.EventKey) {}

func (plantedCount) reached(dems.UserID, dems.EventKey) bool { return false }
