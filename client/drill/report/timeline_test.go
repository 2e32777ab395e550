package report

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/html"
	"pgregory.net/rapid"

	"dems"
)

// drawn returns the drawing of a page.
func drawn(t rapid.TB, page string) string {
	t.Helper()
	_, rest, found := strings.Cut(page, "<svg ")
	inner, _, closed := strings.Cut(rest, "</svg>")
	if !found || !closed {
		t.Fatal("the page has no drawing")
	}
	return "<svg " + inner + "</svg>\n"
}

// checkDrawing checks that the drawing is XML with a title and a description, and that everything lies within it.
func checkDrawing(t rapid.TB, page string) {
	t.Helper()
	text := drawn(t, page)
	decoder := xml.NewDecoder(strings.NewReader(text))
	height, seen := 0.0, map[string]int{}
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the drawing is no XML: %v", err)
		}
		element, ok := token.(xml.StartElement)
		if !ok {
			continue
		}
		seen[element.Name.Local]++
		value := func(name string) float64 {
			for _, attribute := range element.Attr {
				if attribute.Name.Local == name {
					number, err := strconv.ParseFloat(attribute.Value, 64)
					if err != nil {
						t.Errorf("%s has %s=%q", element.Name.Local, name, attribute.Value)
					}
					return number
				}
			}
			return 0
		}
		switch element.Name.Local {
		case "svg":
			if _, err := fmt.Sscanf(element.Attr[1].Value, "0 0 1216 %f", &height); err != nil {
				t.Fatalf("the drawing has the size %q", element.Attr[1].Value)
			}
		case "rect":
			x, y, w, h := value("x"), value("y"), value("width"), value("height")
			if x < plotLeft || w <= 0 || x+w > plotRight+0.6 || y < 0 || h <= 0 || y+h > height {
				t.Errorf("a rectangle at %v, %v of %v by %v is outside of the plot", x, y, w, h)
			}
		case "text":
			if x, y := value("x"), value("y"); x < 0 || x > drawingWidth || y < 0 || y > height {
				t.Errorf("a text stands at %v, %v", x, y)
			}
		}
	}
	if seen["svg"] != 1 || seen["desc"] != 1 || seen["title"] < 1 {
		t.Errorf("the drawing has these elements: %v", seen)
	}
	if wrong := regexp.MustCompile(`NaN|Inf|e[+-]\d`).FindString(strings.Join(regexp.MustCompile(` d="[^"]*"`).FindAllString(text, -1), "")); wrong != "" {
		t.Errorf("a path has %s", wrong)
	}
}

// TestTimeline compares the drawing of a small report with one that was looked at.
func TestTimeline(t *testing.T) {
	golden(t, "testdata/timeline.svg", []byte(drawn(t, rendered(t, "full", full()))))
}

// within returns the elements with a class, below another one.
func within(d document, class string) []*html.Node {
	return d.all(func(node *html.Node) bool { return attribute(node, "class") == class })
}

func TestTimelinePutsThingsWhereTheyBelong(t *testing.T) {
	report := full()
	report.Seconds = 10 // so that a second is a tenth of the plot
	report.Rounds[0].At, report.Rounds[0].HealedAt, report.Rounds[0].EndedAt = 2, 3, 6
	report.Incidents[0].At = 5
	report.Leaders = []Leader{{Node: "n1", Term: 1, From: 0, To: 4}, {From: 4, To: 5}, {Node: "stranger", Term: 2, From: 5, To: 10}}
	report.Slices = []Slice{
		{From: 0, To: 1, Writes: 60, Reads: 40, P50MS: 1, P99MS: 10, WriteMS: 100, ReadMS: 1}, {From: 1, To: 2, Failed: 1},
		{From: 2, To: 3, Reads: 100, P50MS: 10, P99MS: 100, ReadMS: 100},
	}
	d := checkPage(t, rendered(t, "places", report))
	place := func(node *html.Node) string { return attribute(node, "x") + " " + attribute(node, "width") }
	const second = (plotRight - plotLeft) / 10.0
	stretch := func(from, to float64) string {
		return coordinate(plotLeft+from*second) + " " + coordinate((to-from)*second)
	}
	for class, want := range map[string]string{"shades": stretch(2, 6), "broken shades": stretch(2, 3)} {
		if got := place(within(d, class)[0].FirstChild); got != want {
			t.Errorf("%s: %s, want %s", class, got, want)
		}
	}
	leaders := within(d, "node0")
	if got := text(leaders[0]); !strings.Contains(got, "n1 leads in term 1") || !strings.HasSuffix(got, "n1, term 1") {
		t.Errorf("the first leader is %q", got)
	}
	if got := text(within(d, "node3")[0]); !strings.Contains(got, "stranger leads in term 2") {
		t.Errorf("a leader that is none of the nodes is %q", got)
	}
	if got := text(within(d, "nobody")[0]); !strings.Contains(got, "no leader known") {
		t.Errorf("no leader is %q", got)
	}
	if got := attribute(within(d, "wary")[0], "d"); got != "M"+coordinate(plotLeft+5*second)+" 457m0-5.5l5.5 10h-11z" {
		t.Errorf("the incident is drawn as %s", got)
	}
	paths := map[string]string{}
	for _, node := range d.tags("path") {
		if class := attribute(node, "class"); !strings.Contains(class, "key") {
			paths[class] = attribute(node, "d")
		}
	}
	// 100 a second and 1 to 100 ms fill the panels.
	for class, want := range map[string]string{
		"writes": "M104 108h108.4v78h-108.4z", "reads": "M104 56h108.4v52h-108.4zM320.8 56h108.4v130h-108.4z",
		"failed": "M212.4 182h108.4v4h-108.4z", "p50": "M104 406H212.4M320.8 311H429.2", "p99": "M104 311H212.4M320.8 216H429.2",
		"slow writes": "M158.2 216h0", "slow reads": "M158.2 406h0M375 216h0",
	} {
		if paths[class] != want {
			t.Errorf("%s: %s, want %s", class, paths[class], want)
		}
	}
	strips := within(d, "strips")[0]
	if got := text(strips.FirstChild); got != "0:00.0 to 0:01.0\nanswers a second: 60 writes, 40 reads\np50 1.00 ms, p99 10.0 ms\nslowest write 100 ms, slowest read 1.00 ms" {
		t.Errorf("the first slice is %q", got)
	}
	if got := text(strips.FirstChild.NextSibling.NextSibling); !strings.HasPrefix(got, "0:02.0 to 0:03.0, round 1\n") {
		t.Errorf("the third slice is %q", got)
	}
}

func TestEveryKindOfIncidentHasALane(t *testing.T) {
	report := &Report{Seconds: 60}
	for i, kind := range dems.IncidentKinds() {
		report.Incidents = append(report.Incidents, Incident{At: float64(i), Kind: kind.String()})
	}
	t.Run("known", func(t *testing.T) {
		lanes := (&drawing{Report: report, seconds: 60}).kinds()
		if len(lanes) != len(report.Incidents) {
			t.Fatalf("%d lanes for %d kinds", len(lanes), len(report.Incidents))
		}
		for i, lane := range lanes {
			if lane.Label != report.Incidents[i].Kind || len(lane.Marks) != 1 {
				t.Errorf("lane %d is %q with %d marks", i, lane.Label, len(lane.Marks))
			}
		}
	})
	for i := range 1000 {
		report.Incidents = append(report.Incidents, Incident{At: 3, Kind: fmt.Sprintf("a kind with a long name %d", i)})
	}
	lanes := (&drawing{Report: report, seconds: 60}).kinds()
	marks := 0
	for _, lane := range lanes {
		marks += len(lane.Marks)
	}
	if len(lanes) != mostKinds || lanes[mostKinds-1].Label != "others" || marks != len(report.Incidents) {
		t.Errorf("%d lanes, the last of which is %q, with %d marks of %d", len(lanes), lanes[len(lanes)-1].Label, marks, len(report.Incidents))
	}
	if got := lanes[mostKinds-2].Label; got != "a kind with a…" {
		t.Errorf("a long name is written %q", got)
	}
}

func TestAxes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seconds := math.Pow(10, rapid.Float64Range(0, 8.4).Draw(t, "exponent"))
		ticks := (&drawing{Report: &Report{}, seconds: seconds}).ticks()
		if len(ticks) < 5 || len(ticks) > 15 || ticks[0].Label[:1] != "0" {
			t.Errorf("%v s: %d labels: %v", seconds, len(ticks), ticks)
		}
		least := math.Pow(10, rapid.Float64Range(-3, 15).Draw(t, "step"))
		if step := niceStep(least); step < least || step > max(1, 2.5*least) {
			t.Errorf("a step of %v is %v", least, step)
		}
		low := math.Pow(10, rapid.Float64Range(-5, 12).Draw(t, "low"))
		axis, ok := newDecades([]Slice{{P50MS: low, WriteMS: low * 3}}, 0, 100)
		if !ok || axis.high <= axis.low || axis.high-axis.low > 3 || axis.y(low) < axis.y(low*3) || axis.y(low*3) < 0 || axis.y(low) > 100 {
			t.Errorf("%v ms to %v ms: %+v", low, low*3, axis)
		}
	})
	for exponent, want := range map[int]string{-3: "1 µs", -1: "100 µs", 0: "1 ms", 2: "100 ms", 3: "1 s", 6: "1,000 s"} {
		if got := decade(exponent); got != want {
			t.Errorf("10^%d ms: %q, want %q", exponent, got, want)
		}
	}
	if got := (&drawing{Report: &Report{}, seconds: 0.5}).ticks()[1].Label; got != "0:00.1" {
		t.Errorf("half a second has the label %q", got)
	}
}

// TestPageOfAnyReport makes pages of reports that no drill would write.
func TestPageOfAnyReport(t *testing.T) {
	number := rapid.OneOf(
		rapid.SampledFrom([]float64{0, 1, -1, 1e-300, 1e300, math.Inf(1), math.Inf(-1), math.NaN(), 59.99}), rapid.Float64Range(0, 100),
	)
	rapid.Check(t, func(t *rapid.T) {
		n := func(name string) float64 { return number.Draw(t, name) }
		report := full()
		report.Seconds, report.Histories.Seconds, report.Reads.P99MS = n("seconds"), n("checked in"), n("p99")
		for range rapid.IntRange(0, 4).Draw(t, "more") {
			report.Rounds = append(report.Rounds, Round{At: n("at"), HealedAt: n("healed"), EndedAt: n("ended"), ElectMS: n("elect")})
			report.Leaders = append(report.Leaders, Leader{Node: rapid.String().Draw(t, "leader"), From: n("from"), To: n("to")})
			report.Incidents = append(report.Incidents, Incident{At: n("at"), Kind: rapid.String().Draw(t, "kind")})
			report.Slices = append(report.Slices, Slice{
				From: n("from"), To: n("to"), Writes: rapid.Uint64().Draw(t, "writes"), Failed: rapid.Uint64().Draw(t, "failed"),
				WriteMS: n("slowest write"), P50MS: n("p50"), P99MS: n("p99"),
			})
		}
		checkPage(t, rendered(t, "any", report))
	})
}
