package frontend

import (
	"bytes"
	"context"
	"slices"
	"time"

	"dems"
)

const (
	// cityLogPageBytes is how much of a city log is read from each node at once.
	cityLogPageBytes = 256 << 10
	// pagePatience is how long a page waits for the other nodes once a majority has answered.
	pagePatience = 250 * time.Millisecond
)

// CityLog implements Cluster. Records are appended in the same order everywhere, so the nodes' pages are prefixes of each
// other unless one is wrong: the longest run of records that a majority begins with is the answer. It may lack the newest
// ones while one node is late and another does not answer.
func (c *Core) CityLog(ctx context.Context, city dems.City, first uint64) (dems.CityLogPage, error) {
	view := c.members.view()
	ctx, cancel := context.WithTimeout(ctx, laneTimeout)
	defer cancel()
	answers := c.askPages(ctx, view, city, first)
	var pages []*dems.CityLogPage
	for range view.voters {
		page := <-answers
		if page == nil {
			continue
		}
		if pages = append(pages, page); len(pages) < view.majority() {
			continue
		}
		confirmed, settled := confirmPage(pages, first, view.majority())
		if settled {
			return confirmed, nil
		}
		time.AfterFunc(pagePatience, cancel) // the others may still tell more
	}
	if len(view.voters) == 0 || len(pages) < view.majority() {
		return dems.CityLogPage{}, &dems.Error{Code: dems.Unavailable, Detail: "No majority of the nodes answers; try again later."}
	}
	confirmed, _ := confirmPage(pages, first, view.majority())
	if len(confirmed.Records) == 0 && confirmed.Total > first {
		return dems.CityLogPage{}, &dems.Error{Code: dems.NoMajority}
	}
	return confirmed, nil
}

// askPages asks every voter for a page. There come as many answers as there are voters, nil for those that failed.
func (c *Core) askPages(ctx context.Context, v *view, city dems.City, first uint64) <-chan *dems.CityLogPage {
	answers := make(chan *dems.CityLogPage, len(v.voters))
	for _, n := range v.voters {
		started := c.reader.start(func(reading context.Context) {
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			stop := context.AfterFunc(reading, cancel)
			defer stop()
			page, err := n.replica.CityLog(ctx, city, first, cityLogPageBytes)
			if err != nil {
				answers <- nil
				return
			}
			answers <- &page
		})
		if !started {
			answers <- nil
		}
	}
	return answers
}

// confirmPage returns the longest run of whole records that a majority begins with, and the highest total that a majority
// reaches. It is settled when a majority has exactly these records, and the same total.
func confirmPage(pages []*dems.CityLogPage, first uint64, majority int) (confirmed dems.CityLogPage, settled bool) {
	totals := make([]uint64, len(pages))
	for i, candidate := range pages {
		totals[i] = candidate.Total
		records := candidate.Records[:bytes.LastIndexByte(candidate.Records, '\n')+1]
		beginning, same := 0, 0
		for _, other := range pages {
			if bytes.HasPrefix(other.Records, records) {
				beginning++
				if len(other.Records) == len(records) && other.Total == candidate.Total {
					same++
				}
			}
		}
		if beginning >= majority && len(records) >= len(confirmed.Records) {
			confirmed.Records, settled = records, same >= majority
		}
	}
	slices.Sort(totals)
	confirmed.First = first
	// Who asks from first on has mostly been given all records before it, more than a late node knows of. Only when no
	// node has that many, first lies beyond the end.
	seen := min(first, totals[len(totals)-1]) + uint64(bytes.Count(confirmed.Records, []byte{'\n'}))
	confirmed.Total = max(totals[len(totals)-majority], seen)
	return confirmed, settled
}
