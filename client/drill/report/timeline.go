package report

import (
	"fmt"
	"math"
	"strings"
)

// The drawing is drawingWidth wide, in its own units, which are about pixels. All panels share the time axis, from plotLeft to
// plotRight.
const (
	drawingWidth     = 1216
	plotLeft         = 104
	plotRight        = 1188
	throughputHeight = 130
	latencyHeight    = 190
	laneHeight       = 22
	headingHeight    = 30
	letterWidth      = 6.6 // of the labels, about
)

// timeline is the drawing, as far as the template needs to know it. Numbers are texts, ready for attributes.
type timeline struct {
	Width, Height string
	Description   string
	Left, Right   string
	Label         string // where the labels of axes and lanes end
	Top, Bottom   string // of the lines of the time axis
	Depth         string // from top to bottom
	Clock         string // the baseline of its labels
	Ticks         []tick
	Rounds        lane
	Shades        []shade // the rounds
	Broken        []shade // while something was broken
	Throughput    panel
	Latency       panel
	Strips        []strip
	StripTop      string // where they begin, and how far down they go
	StripHeight   string
	Leaders       lane
	Kinds         []kindLane
}

// tick is a labelled line of an axis.
type tick struct{ At, Label string }

// lane is a row of bars.
type lane struct {
	Y, Height, Middle, Baseline string
	Bars                        []bar
}

// bar is a time in a lane.
type bar struct {
	X, Width, Class string
	Label, LabelX   string
	Title           string
}

// shade is a time behind all panels.
type shade struct{ X, Width string }

// panel is a plot with an axis of its own.
type panel struct {
	Left, Right, Label string // where the plot begins and ends, and where the labels of its axis end
	Y, Height, Heading string
	Baselines          []tick
	Series             []series
	Legend             []legend
	Empty              string // said where there is nothing to plot
	Middle             string
}

// series is one path.
type series struct{ Class, Path string }

// legend is what a class means. X is where its mark stands, LabelX its text.
type legend struct{ Class, Label, X, LabelX string }

// strip is a slice of the time, over the two panels.
type strip struct{ X, Width, Title string }

// kindLane is the row of one kind of incident.
type kindLane struct {
	Label, Baseline string
	Line            string
	Marks           []mark
}

// mark is one incident.
type mark struct{ Path, Class, Title string }

// drawing turns times into places.
type drawing struct {
	*Report
	seconds float64 // what the axis ends with
	y       float64 // where the next panel begins
}

func newTimeline(r *Report) *timeline {
	d := &drawing{Report: r, seconds: r.Seconds, y: 4}
	if !(d.seconds > 0) {
		d.seconds = 1
	}
	t := &timeline{
		Width: coordinate(drawingWidth), Left: coordinate(plotLeft), Right: coordinate(plotRight), Label: coordinate(plotLeft - 8),
		Top: coordinate(d.y), Description: r.describe(),
	}
	top := d.y
	t.Rounds, t.Shades, t.Broken = d.rounds()
	panels := d.y + headingHeight
	t.Throughput = d.throughput()
	t.Latency = d.latency()
	t.Strips, t.StripTop, t.StripHeight = d.strips(), coordinate(panels), coordinate(d.y-panels)
	d.y += 12
	t.Leaders = d.leaders()
	d.y += 6
	t.Kinds = d.kinds()
	t.Bottom, t.Depth, t.Clock = coordinate(d.y+4), coordinate(d.y+4-top), coordinate(d.y+20)
	t.Height = coordinate(d.y + 28)
	t.Ticks = d.ticks()
	return t
}

// describe says in words what the drawing shows.
func (r *Report) describe() string {
	var peak float64
	for _, slice := range r.Slices {
		peak = max(peak, rate(slice, slice.Writes+slice.Reads))
	}
	return fmt.Sprintf("%s with %s and %s, from top to bottom: rounds, answers a second (up to %s), latencies (slowest write %s, "+
		"slowest read %s), who led, and incidents. The longest pause of writes was %s, that of reads %s. The tables on this page have "+
		"the same as figures.", took(r.Seconds*1000), count(len(r.Rounds), "round", "rounds"),
		count(len(r.Incidents), "incident", "incidents"), number(uint64(peak)), took(r.Writes.MaxMS), took(r.Reads.MaxMS),
		took(r.Writes.LongestPauseMS), took(r.Reads.LongestPauseMS))
}

// x returns the place of a time; what is outside of the drill is at its edge.
func (d *drawing) x(seconds float64) float64 {
	part := seconds / d.seconds
	if !(part > 0) {
		part = 0
	}
	return plotLeft + min(part, 1)*(plotRight-plotLeft)
}

// stretch returns place and width of a time, which is not too narrow to be seen.
func (d *drawing) stretch(from, to float64) (x, width float64) {
	const least = 0.5
	x = min(d.x(from), plotRight-least)
	return x, max(least, d.x(to)-x)
}

// ticks are the labelled times: 6 to 15 of them.
func (d *drawing) ticks() []tick {
	step := clockStep(d.seconds)
	var list []tick
	for i := 0; float64(i)*step <= d.seconds; i++ {
		at := float64(i) * step
		label := clock(at)
		if step >= 1 {
			label = hands(uint64(math.Round(at)))
		}
		list = append(list, tick{coordinate(d.x(at)), label})
	}
	return list
}

// clockStep returns the distance between two labels of the time axis, in seconds.
func clockStep(seconds float64) float64 {
	for _, step := range []float64{0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 4 * 3600, 8 * 3600} {
		if seconds/step <= 14 {
			return step
		}
	}
	return math.Ceil(seconds/14/86400) * 86400
}

// rate returns how many of a slice there are in a second.
func rate(slice Slice, n uint64) float64 {
	if !(slice.To > slice.From) {
		return 0
	}
	return min(float64(n)/(slice.To-slice.From), 1e15)
}

// place begins a panel: its heading, then its plot.
func (d *drawing) place(height float64) (p panel, top float64) {
	top = d.y + headingHeight
	p = panel{
		Left: coordinate(plotLeft), Right: coordinate(plotRight), Label: coordinate(plotLeft - 8),
		Y: coordinate(top), Height: coordinate(height), Heading: coordinate(top - 9), Middle: coordinate(top + height/2 + 4),
	}
	d.y = top + height
	return p, top
}

// legends lays the parts of a legend out, next to each other behind a heading.
func legends(heading string, parts ...string) []legend {
	x := plotLeft + float64(len(heading))*letterWidth + 28
	var list []legend
	for i := 0; i < len(parts); i += 2 {
		list = append(list, legend{parts[i], parts[i+1], coordinate(x), coordinate(x + 16)})
		x += 16 + float64(len(parts[i+1]))*letterWidth + 18
	}
	return list
}

const (
	throughputHeading = "Answers a second"
	latencyHeading    = "Latency"
)

func (d *drawing) throughput() panel {
	p, top := d.place(throughputHeight)
	p.Legend = legends(throughputHeading, "writes", "writes", "reads", "reads", "failed", "failed or unknown")
	most := 0.0
	for _, slice := range d.Slices {
		most = max(most, rate(slice, slice.Writes)+rate(slice, slice.Reads)+rate(slice, slice.Failed))
	}
	if most == 0 {
		p.Empty = "nothing was answered"
		return p
	}
	step := niceStep(most / 3)
	scale := throughputHeight / (math.Ceil(most/step) * step)
	for i := 0.0; i*step*scale <= throughputHeight+0.5; i++ {
		p.Baselines = append(p.Baselines, tick{coordinate(top + throughputHeight - i*step*scale), number(uint64(i * step))})
	}
	var writes, reads, failed strings.Builder
	for _, slice := range d.Slices {
		x, width := d.stretch(slice.From, slice.To)
		bottom := top + throughputHeight
		for _, part := range []struct {
			path  *strings.Builder
			n     uint64
			least float64 // so that a single failure is seen
		}{{&writes, slice.Writes, 0}, {&reads, slice.Reads, 0}, {&failed, slice.Failed, 4}} {
			if part.n == 0 {
				continue
			}
			height := max(part.least, rate(slice, part.n)*scale)
			bottom -= height
			fmt.Fprintf(part.path, "M%s %sh%sv%sh-%sz", coordinate(x), coordinate(bottom), coordinate(width), coordinate(height), coordinate(width))
		}
	}
	p.Series = []series{{"writes", writes.String()}, {"reads", reads.String()}, {"failed", failed.String()}}
	return p
}

// niceStep returns 1, 2 or 5 times a power of ten, and at least the given number.
func niceStep(least float64) float64 {
	unit := math.Pow(10, math.Floor(math.Log10(max(least, 1))))
	for _, factor := range []float64{1, 2, 5} {
		if factor*unit >= least {
			return factor * unit
		}
	}
	return 10 * unit
}
