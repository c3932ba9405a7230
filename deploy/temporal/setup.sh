#!/bin/sh
# Makes the namespace and our search attributes. Runs once the server answers; repeating it is harmless.
# Address and namespace come from TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE, which the CLI reads by itself.
set -eu

until temporal operator cluster health; do
    sleep 2
done
namespace=${TEMPORAL_NAMESPACE:-default}
temporal operator namespace describe --namespace "$namespace" > /dev/null 2>&1 \
    || temporal operator namespace create --namespace "$namespace" --retention "${RETENTION:-30d}"
until temporal operator search-attribute create --namespace "$namespace" \
    --name OrderStatus --type Keyword \
    --name CustomerId --type Keyword \
    --name OrderTotal --type Double \
    --name FailureReason --type Keyword \
    --name StuckUndo --type Keyword \
    --name ParcelTrouble --type Keyword \
    --name ReturnStatus --type Keyword; do
    sleep 2 # a new namespace is known to all parts of the server after some seconds
done
