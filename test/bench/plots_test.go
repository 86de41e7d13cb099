package bench

import (
	"bytes"
	"fmt"
	"image/color"
	"strings"
	"testing"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// colors are those of the targets, in their order. Letters and lines can be read by people who see no red
// or green.
var colors = []color.RGBA{{9, 105, 218, 255}, {191, 135, 0, 255}, {130, 80, 223, 255}, {87, 96, 106, 255}}

func newPlot(title string) *plot.Plot {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	p := plot.New()
	p.Title.Text = title
	p.Title.Padding = vg.Points(8)
	p.Add(plotter.NewGrid())
	return p
}

// plotCurve draws the processor time and the throughput of each target.
func plotCurve(t *testing.T, c *curve) []byte {
	t.Helper()
	cpu := newPlot("processor time for a request, us")
	rate := newPlot("requests/s")
	for i, name := range c.targets() {
		addLine(t, cpu, c, i, name, func(f figure) float64 { return f.CPU })
		addLine(t, rate, c, i, name, func(f figure) float64 { return f.Rate })
	}
	for _, p := range []*plot.Plot{cpu, rate} {
		p.X.Label.Text = c.X
		p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, ticksOf(c)
		p.Y.Min, p.Y.Max = 0, 1.25*p.Y.Max // the legend lies above the lines
		p.Legend.Top, p.Legend.XOffs = true, -vg.Points(6)
	}
	return drawBeside(t, c.Title, []*plot.Plot{cpu, rate})
}

// drawBeside draws plots beside each other.
func drawBeside(t *testing.T, title string, plots []*plot.Plot) []byte {
	t.Helper()
	const width, height = 12 * vg.Centimeter, 9 * vg.Centimeter
	canvas := vgsvg.New(width*vg.Length(len(plots)), height)
	tiles := draw.Tiles{Rows: 1, Cols: len(plots), PadX: 8 * vg.Millimeter, PadTop: 3 * vg.Millimeter,
		PadBottom: 3 * vg.Millimeter, PadLeft: 3 * vg.Millimeter, PadRight: 5 * vg.Millimeter}
	dc := draw.New(canvas)
	for i, of := range plot.Align([][]*plot.Plot{plots}, tiles, dc)[0] {
		plots[i].Draw(of)
	}
	return svg(t, canvas, title)
}

func addLine(t *testing.T, p *plot.Plot, c *curve, target int, name string, value func(figure) float64) {
	t.Helper()
	points := make(plotter.XYs, len(c.Points))
	for i, at := range c.Points {
		points[i] = plotter.XY{X: float64(at.X), Y: value(at.Targets[target])}
	}
	addPoints(t, p, target, name, points)
}

func addPoints(t *testing.T, p *plot.Plot, target int, name string, points plotter.XYs) {
	t.Helper()
	line, dots, err := plotter.NewLinePoints(points)
	if err != nil {
		t.Fatal(err)
	}
	line.Color, dots.Color = colors[target%len(colors)], colors[target%len(colors)]
	line.Width, dots.Shape = vg.Points(1.5), plotGlyph(target)
	p.Add(line, dots)
	p.Legend.Add(name, line, dots)
}

// plotLatencies draws the percentiles of each target over the load.
func plotLatencies(t *testing.T, l *latencies) []byte {
	t.Helper()
	var plots []*plot.Plot
	for i, name := range percentileNames {
		p := newPlot(name + ", us")
		for k, f := range l.Loads[0].Targets {
			points := make(plotter.XYs, len(l.Loads))
			for n, o := range l.Loads {
				points[n] = plotter.XY{X: float64(o.Percent), Y: o.Targets[k].percentiles()[i]}
			}
			// keyway has the same color as in the other plots.
			addPoints(t, p, (k+len(colors)-1)%len(colors), f.Target, points)
		}
		p.X.Label.Text = "% of keyway's capacity"
		p.Y.Min, p.Y.Max = 0, 1.25*p.Y.Max // the legend lies above the lines
		p.Legend.Top, p.Legend.Left, p.Legend.XOffs = true, true, vg.Points(6)
		plots = append(plots, p)
	}
	return drawBeside(t, "Latency", plots)
}

// plotGlyph returns the shape of a target's points, for those who cannot tell colors.
func plotGlyph(target int) draw.GlyphDrawer {
	return []draw.GlyphDrawer{draw.CircleGlyph{}, draw.BoxGlyph{}, draw.TriangleGlyph{}, draw.CrossGlyph{}}[target%4]
}

func ticksOf(c *curve) plot.ConstantTicks {
	var ticks plot.ConstantTicks
	for _, at := range c.Points {
		ticks = append(ticks, plot.Tick{Value: float64(at.X), Label: fmt.Sprint(at.X)})
	}
	return ticks
}

// plotRows draws a bar for each ratio, with its quartiles, and a line at 1.
func plotRows(t *testing.T, rows []row) []byte {
	t.Helper()
	p := newPlot("Processor time for a request: keyway / twemproxy (less is cheaper)")
	values, names := make(plotter.Values, len(rows)), make([]string, len(rows))
	quartiles := make([]plotter.XYs, len(rows))
	for i := range rows {
		o, at := rows[len(rows)-1-i], float64(i) // from below
		values[i], names[i] = o.CPU.Median, o.Args
		quartiles[i] = plotter.XYs{{X: o.CPU.Low, Y: at}, {X: o.CPU.High, Y: at}}
	}
	bars, err := plotter.NewBarChart(values, vg.Points(16))
	if err != nil {
		t.Fatal(err)
	}
	bars.Horizontal, bars.Color, bars.LineStyle.Width = true, colors[0], 0
	p.Add(bars)
	for _, q := range append(quartiles, plotter.XYs{{X: 1, Y: -0.5}, {X: 1, Y: float64(len(rows)) - 0.5}}) {
		line, err := plotter.NewLine(q)
		if err != nil {
			t.Fatal(err)
		}
		line.Width = vg.Points(1.5)
		p.Add(line)
	}
	p.NominalY(names...)
	p.X.Min, p.X.Max, p.Y.Padding = 0, max(p.X.Max, 1.1), vg.Points(8)
	p.X.Label.Text = "1 = twemproxy; the thin lines are quartiles"
	const width = 20 * vg.Centimeter
	canvas := vgsvg.New(width, vg.Length(3+len(rows))*vg.Centimeter)
	const margin = 3 * vg.Millimeter
	p.Draw(draw.Crop(draw.New(canvas), margin, -margin, margin, -margin))
	return svg(t, canvas, "Processor time for a request, keyway compared with twemproxy")
}

// svg returns the picture. It gets a title for those who cannot see it, and fonts that other machines have.
func svg(t *testing.T, canvas *vgsvg.Canvas, title string) []byte {
	t.Helper()
	var b bytes.Buffer
	if _, err := canvas.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	const family = "font-family:Liberation Sans"
	text := strings.ReplaceAll(b.String(), family+";", family+",Arial,sans-serif;")
	head, rest, _ := strings.Cut(text, "<svg")
	tag, rest, _ := strings.Cut(rest, ">")
	return []byte(head + "<svg" + tag + ">\n<title>" + title + "</title>" + rest)
}
