{{- define "gateway.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end }}

{{- define "gateway.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end }}

{{- define "gateway.selector" -}}
app.kubernetes.io/name: {{ include "gateway.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "gateway.labels" -}}
{{ include "gateway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "gateway.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{- define "gateway.secretName" -}}
{{- .Values.existingSecret | default (include "gateway.fullname" .) -}}
{{- end }}

{{- define "gateway.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- .Values.serviceAccount.name | default (include "gateway.fullname" .) -}}
{{- else -}}
{{- .Values.serviceAccount.name | default "default" -}}
{{- end -}}
{{- end }}

{{- /* The gateway's own port numbers, so that nobody has to say them twice. */ -}}
{{- define "gateway.ingestPort" -}}
{{- dig "ingest" "port" 8080 .Values.config -}}
{{- end }}

{{- define "gateway.adminPort" -}}
{{- dig "admin" "port" 8081 .Values.config -}}
{{- end }}

{{- /* The component that takes callbacks. */ -}}
{{- define "gateway.front" -}}
{{- ternary "run" "serve" (eq .Values.mode "embedded") -}}
{{- end }}

{{- /* Not empty where a StatefulSet of its own delivers. */ -}}
{{- define "gateway.hasFanout" -}}
{{- if and (eq .Values.mode "kafka") .Values.fanout.enabled -}}true{{- end -}}
{{- end }}

{{- define "gateway.checked" -}}
{{- if and (eq .Values.mode "kafka") (not .Values.config.kafka) -}}
{{- fail "config.kafka is missing: in mode kafka, serve and fanout exchange events through Kafka. Set config.kafka.bootstrap_servers, or set mode: embedded." -}}
{{- end -}}
{{- if and (eq .Values.mode "embedded") .Values.config.kafka -}}
{{- fail "config.kafka is set, and mode embedded uses no Kafka: remove config.kafka, or set mode: kafka." -}}
{{- end -}}
{{- if and .Values.fanout.autoscaling.enabled .Values.fanout.keda.enabled -}}
{{- fail "fanout.autoscaling and fanout.keda both set the number of replicas: enable one of them." -}}
{{- end -}}
{{- end }}

{{- /* What rolls a pod. Subscribers are left out: the running gateway watches the file. */ -}}
{{- define "gateway.checksums" -}}
checksum/config: {{ omit .Values.config "subscribers" "alerts" | toYaml | sha256sum }}
{{- if not .Values.existingSecret }}
checksum/secrets: {{ .Values.secrets | toYaml | sha256sum }}
{{- end }}
{{- end }}

{{- define "gateway.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "gateway.containerSecurity" -}}
allowPrivilegeEscalation: false
privileged: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "gateway.env" -}}
- name: GATEWAY_CONFIG
  value: /etc/gateway/config.yaml
- name: GATEWAY__INGEST__HOST
  value: 0.0.0.0
- name: GATEWAY__JOURNAL__DIR
  value: /var/lib/gateway
- name: GATEWAY__ADMIN__HOST
  value: 0.0.0.0
- name: GATEWAY__ADMIN__PORT
  value: {{ include "gateway.adminPort" . | quote }}
- name: GATEWAY__ADMIN__TOKEN
  valueFrom: {secretKeyRef: {name: {{ include "gateway.secretName" . }}, key: ADMIN_TOKEN}}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /*
Probes ask the admin port: /healthz and /readyz need no token. The process deliver answers them. When it dies, the
supervisor starts it again within 10 s, and the platform is answered meanwhile: so a pod is unready only after 30 s.
*/ -}}
{{- define "gateway.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: admin}
  periodSeconds: 2
  failureThreshold: 150
livenessProbe:
  httpGet: {path: /healthz, port: admin}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 6
readinessProbe:
  httpGet: {path: /readyz, port: admin}
  periodSeconds: 5
  timeoutSeconds: 3
  failureThreshold: 6
{{- end }}

{{- define "gateway.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end }}

{{- define "gateway.spread" -}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "gateway.selector" .root | nindent 8 }}
        app.kubernetes.io/component: {{ .component }}
{{- end }}
