package frontend

import (
	"testing"

	"dems"
)

// TestPagesBeyondTheEndTellTheTotal shows that the number of records does not depend on where a page begins.
func TestPagesBeyondTheEndTellTheTotal(t *testing.T) {
	end := &dems.CityLogPage{First: 9, Total: 4}
	page, settled := confirmPage([]*dems.CityLogPage{end, end}, 9, 2)
	if page.First != 9 || page.Total != 4 || len(page.Records) != 0 || !settled {
		t.Errorf("%+v, settled %v; want no records of 4", page, settled)
	}
	late := &dems.CityLogPage{First: 4, Total: 1}
	if page, _ = confirmPage([]*dems.CityLogPage{late, end}, 4, 2); page.Total != 4 {
		t.Errorf("%+v: want the 4 that were there before a late node was asked", page)
	}
}

// TestRecordsCountInTheTotal shows that a total never says less than what a majority's records show.
func TestRecordsCountInTheTotal(t *testing.T) {
	records := []byte("{}\n{}\n")
	low, high := &dems.CityLogPage{Total: 1, Records: records}, &dems.CityLogPage{Total: 2, Records: records}
	if page, settled := confirmPage([]*dems.CityLogPage{low, high}, 0, 2); page.Total != 2 || settled {
		t.Errorf("%+v, settled %v; want a total of 2 until somebody tells more", page, settled)
	}
}

// TestTotalsSettleAPage shows that a low total, of a node that is late or wrong, is not taken while others may know better:
// whoever reads page after page would stop too early.
func TestTotalsSettleAPage(t *testing.T) {
	records := []byte("{}\n{}\n")
	low, high := &dems.CityLogPage{Total: 1, Records: records}, &dems.CityLogPage{Total: 4000, Records: records}
	if page, settled := confirmPage([]*dems.CityLogPage{low, high, high}, 0, 2); page.Total != 4000 || !settled {
		t.Errorf("%+v, settled %v; want a total of 4000", page, settled)
	}
}
