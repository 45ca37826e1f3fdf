package main

// templates are the 50 series of every pod: 16 from cAdvisor, 8 from
// kube-state-metrics, 16 from the Istio sidecar, 10 from the application.
// Extra labels are sorted by name.
var templates = buildTemplates()

func buildTemplates() []template {
	t := cadvisorTemplates()
	t = append(t, stateTemplates()...)
	t = append(t, istioTemplates()...)
	return append(t, applicationTemplates()...)
}

func cadvisorTemplates() []template {
	total := []label{{"cpu", "total"}}
	eth := []label{{"interface", "eth0"}}
	dev := []label{{"device", "/dev/nvme0n1"}}
	return []template{
		one(cadvisor, total, metric{"container_cpu_usage_seconds_total", "Cumulative cpu time consumed in seconds.", "seconds", countMicro, true}),
		one(cadvisor, nil, metric{"container_cpu_user_seconds_total", "Cumulative user cpu time consumed in seconds.", "seconds", countMicro, true}),
		one(cadvisor, nil, metric{"container_cpu_system_seconds_total", "Cumulative system cpu time consumed in seconds.", "seconds", countMicro, true}),
		one(cadvisor, nil, metric{"container_cpu_cfs_periods_total", "Number of elapsed enforcement period intervals.", "", countInt, true}),
		one(cadvisor, nil, metric{"container_cpu_cfs_throttled_periods_total", "Number of throttled period intervals.", "", countInt, true}),
		one(cadvisor, nil, metric{"container_memory_working_set_bytes", "Current working set of the container in bytes.", "bytes", gaugeBytes, false}),
		one(cadvisor, nil, metric{"container_memory_rss", "Size of RSS in bytes.", "", gaugeBytes, false}),
		one(cadvisor, nil, metric{"container_memory_usage_bytes", "Current memory usage in bytes, including all memory.", "bytes", gaugeBytes, false}),
		one(cadvisor, nil, metric{"container_memory_cache", "Number of bytes of page cache memory.", "", gaugeBytes, false}),
		one(cadvisor, nil, metric{"container_spec_memory_limit_bytes", "Memory limit for the container.", "bytes", constant, false}),
		one(cadvisor, nil, metric{"container_start_time_seconds", "Start time of the container since unix epoch in seconds.", "seconds", constant, false}),
		one(cadvisor, nil, metric{"container_processes", "Number of processes running inside the container.", "", constant, false}),
		one(cadvisor, dev, metric{"container_fs_reads_bytes_total", "Cumulative count of bytes read.", "bytes", countInt, true}),
		one(cadvisor, dev, metric{"container_fs_writes_bytes_total", "Cumulative count of bytes written.", "bytes", countInt, true}),
		one(cadvisor, eth, metric{"container_network_receive_bytes_total", "Cumulative count of bytes received.", "bytes", countInt, true}),
		one(cadvisor, eth, metric{"container_network_transmit_bytes_total", "Cumulative count of bytes transmitted.", "bytes", countInt, true}),
	}
}

func stateTemplates() []template {
	phase := metric{"kube_pod_status_phase", "The pods current phase.", "", constant, false}
	request := metric{"kube_pod_container_resource_requests", "The number of requested request resource by a container.", "", constant, false}
	return []template{
		one(stateMetrics, []label{{"phase", "Running"}}, phase),
		one(stateMetrics, []label{{"phase", "Pending"}}, phase),
		one(stateMetrics, nil, metric{"kube_pod_container_status_ready", "Whether the containers readiness check succeeded.", "", constant, false}),
		one(stateMetrics, nil, metric{"kube_pod_container_status_restarts_total", "The number of container restarts per container.", "", countInt, true}),
		one(stateMetrics, []label{{"resource", "cpu"}, {"unit", "core"}}, request),
		one(stateMetrics, []label{{"resource", "memory"}, {"unit", "byte"}}, request),
		one(stateMetrics, nil, metric{"kube_pod_info", "Information about pod.", "", constant, false}),
		one(stateMetrics, nil, metric{"kube_pod_start_time", "Start time in unix timestamp for a pod.", "", constant, false}),
	}
}

func istioTemplates() []template {
	requests := metric{"istio_requests_total", "Requests handled by the proxy.", "", countInt, true}
	bucket := metric{"istio_request_duration_milliseconds_bucket", "Duration of requests.", "milliseconds", countInt, true}
	out := []template{
		one(istio, []label{{"response_code", "200"}}, requests),
		one(istio, []label{{"response_code", "503"}}, requests),
	}
	bounds := []string{"1", "5", "10", "25", "50", "100", "250", "500", "1000", "+Inf"}
	for i, le := range bounds {
		t := one(istio, []label{{"le", le}}, bucket)
		t.share = float64(i+1) / float64(len(bounds)+1)
		out = append(out, t)
	}
	return append(out,
		one(istio, nil, metric{"istio_request_duration_milliseconds_sum", "Duration of requests.", "milliseconds", countMicro, true}),
		one(istio, nil, metric{"istio_request_duration_milliseconds_count", "Duration of requests.", "milliseconds", countInt, true}),
		one(istio, nil, metric{"istio_request_bytes_sum", "Size of request bodies.", "bytes", countInt, true}),
		one(istio, nil, metric{"istio_response_bytes_sum", "Size of response bodies.", "bytes", countInt, true}),
	)
}

func applicationTemplates() []template {
	requests := metric{"http_requests_total", "HTTP requests served, by route and code.", "", countInt, true}
	route := func(code, method string) []label {
		return []label{{"code", code}, {"method", method}, {"route", "/api/v1/items/{id}"}}
	}
	return []template{
		one(application, route("200", "GET"), requests),
		one(application, route("500", "GET"), requests),
		one(application, route("201", "POST"), requests),
		one(application, nil, metric{"process_cpu_seconds_total", "Total user and system CPU time spent in seconds.", "seconds", countMicro, true}),
		one(application, nil, metric{"process_resident_memory_bytes", "Resident memory size in bytes.", "bytes", gaugeBytes, false}),
		one(application, nil, metric{"go_memstats_heap_inuse_bytes", "Number of heap bytes that are in use.", "bytes", gaugeBytes, false}),
		one(application, []label{{"pool", "default"}}, metric{"worker_utilization_ratio", "Busy share of the worker pool.", "ratio", gaugeMilli, false}),
		one(application, []label{{"queue", "events"}}, metric{"queue_wait_seconds", "Time the oldest entry has waited.", "seconds", gaugeMilli, false}),
		one(application, []label{{"queue", "events"}}, metric{"queue_rate", "Entries taken a second.", "", gaugeMilli, false}),
		one(application, nil, metric{"build_info", "Version of the running build.", "", constant, false}),
	}
}

func one(p plane, extra []label, m metric) template {
	return template{metric: &m, plane: p, extra: extra, share: 1}
}
