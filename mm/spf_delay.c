// SPDX-License-Identifier: GPL-2.0
/*
 * Speculative page faults: delays that widen the windows of races, for tests.
 */
#include <linux/debugfs.h>
#include <linux/init.h>
#include <linux/ktime.h>
#include <linux/processor.h>

#include "spf.h"

static u32 spf_delay_us[NR_SPF_DELAYS];

static const char * const spf_delay_names[] = {
	[SPF_DELAY_FOUND]	= "found",
	[SPF_DELAY_SEQUENCE]	= "sequence",
	[SPF_DELAY_SNAPSHOT]	= "snapshot",
	[SPF_DELAY_MAPPING]	= "mapping",
	[SPF_DELAY_UNLOCKED]	= "unlocked",
	[SPF_DELAY_LOCKED]	= "locked",
};

/**
 * spf_delay() - Stay at a point of a speculative fault for a while
 * @point: The point
 *
 * For as many microseconds as a test has set, by default none, at most a second.
 * Burns the time, so as not to depend on where the point may sleep.
 *
 * Context: Any.
 */
void spf_delay(enum spf_delay point)
{
	u32 us = min(READ_ONCE(spf_delay_us[point]), USEC_PER_SEC);
	ktime_t end;

	if (likely(!us))
		return;

	end = ktime_add_us(ktime_get(), us);
	while (ktime_before(ktime_get(), end))
		cpu_relax();
}

static int __init spf_delay_init(void)
{
	struct dentry *dir = debugfs_create_dir("spf_delay", NULL);
	unsigned int point;

	for (point = 0; point < NR_SPF_DELAYS; point++)
		debugfs_create_u32(spf_delay_names[point], 0600, dir,
				   &spf_delay_us[point]);
	return 0;
}
late_initcall(spf_delay_init);
