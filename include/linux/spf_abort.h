/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Why speculative page faults give up: the one list that everything which
 * counts or reports them is made from.
 */
#ifndef _LINUX_SPF_ABORT_H
#define _LINUX_SPF_ABORT_H

#define SPF_ABORTS(X)							\
	/* no VMA at the address */					\
	X(VMA_NONE, vma_none)						\
	/* the VMA is being, or was, changed */				\
	X(VMA_CHANGED, vma_changed)					\
	/* a write to, or a swap entry in, a VMA without anon_vma */	\
	X(VMA_NOANON, vma_noanon)					\
	/* a kind of VMA that is never speculated on */			\
	X(VMA_NOTSUP, vma_notsup)					\
	/* the VMA does not permit the access */			\
	X(VMA_ACCESS, vma_access)					\
	/* no page table: it is not ours to allocate */			\
	X(PMD_NONE, pmd_none)						\
	/* the page table was removed or replaced */			\
	X(PMD_CHANGED, pmd_changed)					\
	/* a huge page, and more to do than to set bits in its entry */	\
	X(PMD_HUGE, pmd_huge)						\
	/* the page table lock stayed busy */				\
	X(PTE_LOCK, pte_lock)						\
	/* a page table entry that is never speculated on */		\
	X(PTE_NOTSUP, pte_notsup)					\
	/* a page to read, or to be asked of its file system */		\
	X(NEEDS_IO, needs_io)						\
	/* the page is locked by somebody else */			\
	X(FOLIO_LOCK, folio_lock)					\
	/* a NUMA hinting fault on a page of another node */		\
	X(NUMA_REMOTE, numa_remote)					\
	/* a copy while the mm has MMU notifiers */			\
	X(NOTIFIER, notifier)						\
	/* no memory without reclaim, or the memory cgroup is full */	\
	X(NOMEM, nomem)							\
	/* a kernel thread, whose use of the mm may be uncounted */	\
	X(KTHREAD, kthread)						\
	/* an error: the fault with the lock is to report it */		\
	X(ERROR, error)

/*
 * Reasons to abort a speculative page fault.
 *
 * See SPF_ABORTS() for their meaning. Reason X is counted in /proc/vmstat as
 * spf_abort_x.
 */
enum spf_abort {
#define SPF_ABORT_ENUM(reason, name)	SPF_ABORT_##reason,
	SPF_ABORTS(SPF_ABORT_ENUM)
#undef SPF_ABORT_ENUM
	NR_SPF_ABORTS
};

#endif /* _LINUX_SPF_ABORT_H */
