# SPDX-License-Identifier: GPL-2.0
#
# Thin: each target is the script of its name. scripts/lib.sh checks the
# variables' values; only their names and the targets' are checked here.

targets   := help run bench check series tree export boot storms check-all check-bisect \
	check-debug check-mutants torture fuzz mm-selftests
variables := ARCH KERNEL_TREE FORCE CPUS MEM ACCEL JOBS AUTHOR MUTANT MINUTES SEED MMU PAGE_SIZE \
	CATEGORY TEST FRAGMENT FROM

given := $(foreach v,$(.VARIABLES),$(if $(findstring command line,$(origin $v)),$v))
wrong := $(filter-out $(variables),$(given))
ifneq ($(wrong),)
$(error There is no variable $(wrong). Known: $(variables). "make help" says what they do)
endif
wrong := $(filter-out $(targets),$(MAKECMDGOALS))
ifneq ($(wrong),)
$(error There is no target $(wrong). Known: $(targets). "make help" says what they do)
endif

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: $(targets)
$(foreach v,$(variables),$(eval export $v))

boot:
	@scripts/boot shell

help run bench check series tree export storms check-all check-bisect check-debug check-mutants torture fuzz mm-selftests:
	@scripts/$@
