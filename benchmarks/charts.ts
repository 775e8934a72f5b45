/** Draws charts as SVG, so that the report needs neither a server nor a script. */
import * as echarts from 'echarts'
import type { Chart } from './scenario.ts'

const size = { width: 540, height: 320 }

/** @returns the chart as an SVG element */
export function drawn (chart: Chart): string {
  const canvas = echarts.init(null, null, { renderer: 'svg', ssr: true, ...size })
  canvas.setOption({ animation: false, title: { text: chart.title, textStyle: { fontSize: 14 } }, grid: { left: 70, right: 30, top: 60, bottom: 50 }, ...chart.kind === 'bars' ? bars(chart) : lines(chart) })
  const svg = canvas.renderToSVGString()
  canvas.dispose()
  return svg
}

function bars ({ unit, bars }: Extract<Chart, { kind: 'bars' }>): echarts.EChartsOption {
  return {
    grid: { left: 200, right: 80, top: 50, bottom: 40 },
    xAxis: { type: 'value', name: unit, nameLocation: 'middle', nameGap: 25, splitNumber: 3 },
    yAxis: { type: 'category', inverse: true, data: bars.map(({ name }) => name) },
    series: [{ type: 'bar', data: bars.map(({ value }) => value), label: { show: true, position: 'right', formatter: ({ value }) => Number(value).toLocaleString('en-US') } }]
  }
}

function lines ({ x, y, lines }: Extract<Chart, { kind: 'lines' }>): echarts.EChartsOption {
  const names = lines[0]?.points.map(([at]) => String(at)) ?? []
  // Percentiles stand at equal distances, or the interesting ones would lie on top of each other.
  const byName = x === 'percentile'
  return {
    legend: { top: 28 },
    xAxis: byName ? { type: 'category', data: names, name: x, nameLocation: 'middle', nameGap: 28 } : { type: 'value', name: x, nameLocation: 'middle', nameGap: 28 },
    yAxis: { type: byName ? 'log' : 'value', name: y },
    series: lines.map(({ name, points }) => ({ name, type: 'line', showSymbol: byName, data: byName ? points.map(([, value]) => value) : points.map(point => [...point]) }))
  }
}
