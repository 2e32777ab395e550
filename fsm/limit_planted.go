//go:build planted

package fsm

import (
	"dems"
	"dems/internal/planted"
)

// plantedCount is the bug monthly-limit: foreign bookings by month, counted apart from the bookings. Nothing counts down.
type plantedCount struct {
	months map[int]int
}

func (p *plantedCount) add(user dems.UserID, key dems.EventKey) {
	if !planted.Has(planted.MonthlyLimit) || !key.IsForeign(user) {
		return
	}
	if p.months == nil {
		p.months = make(map[int]int)
	}
	p.months[key.ID.Date.MonthNumber()]++
}

func (p *plantedCount) reached(user dems.UserID, key dems.EventKey) bool {
	return key.IsForeign(user) && p.months[key.ID.Date.MonthNumber()] >= dems.MaxForeignBookingsPerMonth
}
