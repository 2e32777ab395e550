package report

import (
	"cmp"
	"fmt"
	"slices"

	"dems"
)

// newLane begins a row.
func (d *drawing) newLane() lane {
	l := lane{
		Y: coordinate(d.y), Height: coordinate(laneHeight), Middle: coordinate(d.y + laneHeight/2), Baseline: coordinate(d.y + 15),
	}
	d.y += laneHeight
	return l
}

// fitting returns the first of the labels that fits in a width; none, if none does.
func fitting(width float64, labels ...string) string {
	for _, label := range labels {
		if float64(len([]rune(label)))*letterWidth+8 <= width {
			return label
		}
	}
	return ""
}

// rounds draws the rounds: dark while something is broken, light until everything is well again.
func (d *drawing) rounds() (l lane, rounds, broken []shade) {
	l = d.newLane()
	for i, round := range d.Rounds {
		ended, class := round.EndedAt, "round"
		if ended == 0 {
			class = "round open"
			if ended = d.seconds; i+1 < len(d.Rounds) {
				ended = d.Rounds[i+1].At
			}
		}
		healed := cmp.Or(round.HealedAt, ended)
		x, width := d.stretch(round.At, ended)
		scenario := plain(round.Scenario)
		label := fitting(width, fmt.Sprintf("%d %s", i+1, scenario), fmt.Sprint(i+1))
		title := fmt.Sprintf("Round %d: %s %d\n%s\nfrom %s to %s", i+1, scenario, round.Number, plain(cmp.Or(round.What, round.Node)),
			clock(round.At), clock(ended))
		if round.EndedAt == 0 {
			title += ", not ended"
		}
		title += fmt.Sprintf("\npause of writes %s, of reads %s", took(round.WritePauseMS), took(round.ReadPauseMS))
		l.Bars = append(l.Bars, bar{coordinate(x), coordinate(width), class, label, coordinate(x + 4), title})
		rounds = append(rounds, shade{coordinate(x), coordinate(width)})
		x, width = d.stretch(round.At, min(healed, ended))
		broken = append(broken, shade{coordinate(x), coordinate(width)})
	}
	return l, rounds, broken
}

// leaders draws who led. A node keeps its colour, and colours repeat after six.
func (d *drawing) leaders() lane {
	l := d.newLane()
	names := slices.Clone(d.Nodes[:min(len(d.Nodes), mostOthers)])
	for _, leader := range d.Leaders {
		x, width := d.stretch(leader.From, leader.To)
		if width > 3 {
			width-- // so that it can be told from the next one
		}
		if leader.Node == "" {
			l.Bars = append(l.Bars, bar{
				X: coordinate(x), Width: coordinate(width), Class: "nobody",
				Title: fmt.Sprintf("no leader known\nfrom %s to %s", clock(leader.From), clock(leader.To)),
			})
			continue
		}
		place := slices.Index(names, leader.Node)
		if place < 0 {
			place = len(names)
			names = append(names, leader.Node)
		}
		node := plain(leader.Node)
		l.Bars = append(l.Bars, bar{
			X: coordinate(x), Width: coordinate(width), Class: fmt.Sprintf("node%d", place%6),
			Label: fitting(width, fmt.Sprintf("%s, term %d", node, leader.Term), node), LabelX: coordinate(x + 4),
			Title: fmt.Sprintf("%s leads in term %d\nfrom %s to %s", node, leader.Term, clock(leader.From), clock(leader.To)),
		})
	}
	return l
}

const mostKinds = 12 // lanes of incidents

// tones says what to think of a kind of incident: bad and wary have their colours, so has good.
var tones = map[string]string{
	dems.AccusationIncident.String(): "wary", dems.VerdictIncident.String(): "wary", dems.SuspicionIncident.String(): "wary",
	dems.ConvictionIncident.String(): "bad", dems.QuarantineIncident.String(): "bad", dems.NoMajorityIncident.String(): "bad",
	dems.RecoveryIncident.String(): "good", dems.ReadditionIncident.String(): "good",
}

// kinds draws the incidents, each kind in a lane of its own. Kinds that do not fit share the last one.
func (d *drawing) kinds() []kindLane {
	const others = "others"
	var names []string
	for _, kind := range dems.IncidentKinds() {
		names = append(names, kind.String())
	}
	used := map[string]bool{}
	for _, incident := range d.Incidents {
		used[incident.Kind] = true
		if !slices.Contains(names, incident.Kind) && len(names) < 10*mostKinds {
			names = append(names, incident.Kind)
		}
	}
	names = slices.DeleteFunc(names, func(name string) bool { return !used[name] })
	if len(names) > mostKinds {
		names = append(names[:mostKinds-1:mostKinds-1], others)
	}
	list := make([]kindLane, len(names))
	for i, name := range names {
		y := d.y + laneHeight/2
		list[i] = kindLane{Label: plain(name), Baseline: coordinate(y + 4), Line: coordinate(y)}
		if len([]rune(list[i].Label)) > 14 {
			list[i].Label = string([]rune(list[i].Label)[:13]) + "…"
		}
		d.y += laneHeight - 4
	}
	for _, incident := range d.Incidents {
		i := slices.Index(names, incident.Kind)
		if i < 0 {
			i = len(names) - 1
		}
		list[i].Marks = append(list[i].Marks, d.mark(incident, list[i].Line))
	}
	return list
}

// mark draws an incident. Its tone has a form too, for those who see colours alike.
func (d *drawing) mark(incident Incident, y string) mark {
	form := map[string]string{
		"bad":  "m0-6l6 6l-6 6l-6-6z",
		"wary": "m0-5.5l5.5 10h-11z",
		"good": "m-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0z",
		"":     "m-4-4h8v8h-8z",
	}
	tone := tones[incident.Kind]
	title := fmt.Sprintf("%s %s at %s", plain(incident.Kind), plain(incident.Node), clock(incident.At))
	if incident.By != "" {
		title += "\nsays " + plain(incident.By)
	}
	if incident.Detail != "" {
		title += "\n" + plain(incident.Detail)
	}
	return mark{"M" + coordinate(d.x(incident.At)) + " " + y + form[tone], cmp.Or(tone, "neutral"), title}
}
