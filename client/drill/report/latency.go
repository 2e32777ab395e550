package report

import (
	"fmt"
	"math"
	"strings"
)

// decades is a logarithmic axis, from 10^low to 10^high milliseconds.
type decades struct {
	low, high   int
	top, height float64
}

// y returns the place of a latency.
func (a decades) y(ms float64) float64 {
	part := (math.Log10(max(ms, 1e-6)) - float64(a.low)) / float64(a.high-a.low)
	return a.top + a.height*(1-max(0, min(part, 1)))
}

// newDecades returns the axis for the latencies of a timeline; ok tells whether there are any.
func newDecades(timeline []Slice, top, height float64) (axis decades, ok bool) {
	least, most := math.Inf(1), 0.0
	for _, slice := range timeline {
		for _, ms := range []float64{slice.P50MS, slice.P99MS, slice.WriteMS, slice.ReadMS} {
			if ms > 0 {
				least, most = min(least, ms), max(most, ms)
			}
		}
	}
	if most == 0 {
		return decades{}, false
	}
	low := max(-3, math.Floor(math.Log10(least)))
	high := max(low+1, min(math.Ceil(math.Log10(most)), 12))
	return decades{low: int(low), high: int(high), top: top, height: height}, true
}

func (a decades) baselines() []tick {
	var list []tick
	for exponent := a.low; exponent <= a.high; exponent++ {
		list = append(list, tick{coordinate(a.y(math.Pow10(exponent))), decade(exponent)})
	}
	return list
}

// decade writes a power of ten of milliseconds.
func decade(exponent int) string {
	switch ms := math.Pow10(exponent); {
	case exponent < 0:
		return fmt.Sprintf("%g µs", math.Pow10(exponent+3))
	case exponent < 3:
		return fmt.Sprintf("%g ms", ms)
	default:
		return number(uint64(ms/1000)) + " s"
	}
}

func (d *drawing) latency() panel {
	p, top := d.place(latencyHeight)
	p.Legend = legends(latencyHeading, "p50", "p50", "p99", "p99", "slow writes", "slowest write", "slow reads", "slowest read")
	axis, ok := newDecades(d.Slices, top, latencyHeight)
	if !ok {
		p.Empty = "nothing was answered"
		return p
	}
	p.Baselines = axis.baselines()
	p.Series = []series{
		{"slow reads", d.dots(axis, func(slice *Slice) float64 { return slice.ReadMS })},
		{"slow writes", d.dots(axis, func(slice *Slice) float64 { return slice.WriteMS })},
		{"p99", d.steps(axis, func(slice *Slice) float64 { return slice.P99MS })},
		{"p50", d.steps(axis, func(slice *Slice) float64 { return slice.P50MS })},
	}
	return p
}

// steps draws a line with a step for each slice, and with gaps where nothing was answered.
func (d *drawing) steps(axis decades, of func(*Slice) float64) string {
	var path strings.Builder
	end := math.Inf(-1) // of the slice before
	for i := range d.Slices {
		slice := &d.Slices[i]
		if slice.Writes+slice.Reads == 0 {
			continue
		}
		if slice.From > end+1e-6 {
			fmt.Fprintf(&path, "M%s %s", coordinate(d.x(slice.From)), coordinate(axis.y(of(slice))))
		} else {
			fmt.Fprintf(&path, "V%s", coordinate(axis.y(of(slice))))
		}
		fmt.Fprintf(&path, "H%s", coordinate(d.x(slice.To)))
		end = slice.To
	}
	return path.String()
}

// dots draws a dot for each slice that has such a latency.
func (d *drawing) dots(axis decades, of func(*Slice) float64) string {
	var path strings.Builder
	for i := range d.Slices {
		if ms := of(&d.Slices[i]); ms > 0 {
			middle := (d.x(d.Slices[i].From) + d.x(d.Slices[i].To)) / 2
			fmt.Fprintf(&path, "M%s %sh0", coordinate(middle), coordinate(axis.y(ms)))
		}
	}
	return path.String()
}

// strips say in words what the panels show of each slice.
func (d *drawing) strips() []strip {
	list := make([]strip, len(d.Slices))
	for i, slice := range d.Slices {
		x, width := d.stretch(slice.From, slice.To)
		var title strings.Builder
		fmt.Fprintf(&title, "%s to %s", clock(slice.From), clock(slice.To))
		if round := roundAt(d.Rounds, slice.From); round >= 0 {
			fmt.Fprintf(&title, ", round %d", round+1)
		}
		fmt.Fprintf(&title, "\nanswers a second: %s writes, %s reads", number(uint64(rate(slice, slice.Writes))),
			number(uint64(rate(slice, slice.Reads))))
		if slice.Failed > 0 {
			fmt.Fprintf(&title, "\nfailed or unknown: %s", number(slice.Failed))
		}
		if slice.Writes+slice.Reads > 0 {
			fmt.Fprintf(&title, "\np50 %s, p99 %s\nslowest write %s, slowest read %s", took(slice.P50MS), took(slice.P99MS),
				seen(slice.WriteMS), seen(slice.ReadMS))
		}
		list[i] = strip{coordinate(x), coordinate(width), title.String()}
	}
	return list
}
