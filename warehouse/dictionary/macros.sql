-- What the rules' SQL may call. DuckDB; `judged_on()` is made by whoever judges: the day after which dates lie ahead.

-- EDSS that follows from the functional systems and the ambulation score (0 to 16), by the table of the EDSS calculator
-- github.com/adobrasinovic/edss, version named in rule R03. Empty where one of the eight is. Visual and bowel/bladder
-- scores are converted first, as the table wants them.
create macro edss_visual(score) as case when score <= 1 then score when score <= 3 then 2 when score <= 5 then 3 else 4 end;

create macro edss_bowel_bladder(score) as case when score <= 2 then score when score <= 4 then 3 else score - 1 end;

create macro edss_walking(ambulation) as case
    when ambulation = 3 then 5.0
    when ambulation = 4 then 5.5
    when ambulation in (5, 6, 7) then 6.0
    when ambulation in (8, 9) then 6.5
    when ambulation between 10 and 16 then 2 + ambulation / 2.0
end;

-- m: the highest score; n: systems that have it; s: the next lower score; c: systems that have that one.
create macro edss_standing(m, n, s, c, ambulation) as case
    when m >= 5 or (m = 4 and n >= 2) or (m = 4 and s = 3 and c >= 3) then 5.0
    when m = 4 and s in (2, 3) then 4.5
    when m = 4 and s < 2 and ambulation < 2 then 4.0
    when m = 3 and n >= 6 then 5.0
    when ambulation = 2 then 4.5
    when m = 3 and n = 5 then 4.5
    when m = 3 and n = 2 and s <= 1 then 3.5
    when m = 3 and n >= 2 then 4.0
    when m = 3 and s = 2 then case when c >= 3 then 4.0 else 3.5 end
    when m = 3 then 3.0
    when m = 2 and n >= 6 then 4.0
    when m = 2 and n = 5 then 3.5
    when m = 2 and n >= 3 then 3.0
    when m = 2 and n = 2 then 2.5
    when m = 2 then 2.0
    when ambulation = 1 then 2.0
    when m = 1 and n >= 2 then 1.5
    when m = 1 then 1.0
    else 0.0
end;

create macro edss_of_scores(scores, ambulation) as coalesce(
    edss_walking(ambulation),
    edss_standing(
        list_max(scores),
        len(list_filter(scores, lambda x: x = list_max(scores))),
        coalesce(list_max(list_filter(scores, lambda x: x < list_max(scores))), 0),
        len(list_filter(scores, lambda x: x = coalesce(list_max(list_filter(scores, lambda y: y < list_max(scores))), -1))),
        ambulation
    )
);

create macro edss_of_systems(visual, brainstem, pyramidal, cerebellar, sensory, bowel_bladder, cerebral, ambulation) as
    case when visual + brainstem + pyramidal + cerebellar + sensory + bowel_bladder + cerebral + ambulation is not null then
        edss_of_scores(
            [edss_visual(visual), brainstem, pyramidal, cerebellar, sensory, edss_bowel_bladder(bowel_bladder), cerebral],
            ambulation
        )
    end;

-- `later` is not before `earlier`, at the precision of the less precise: a first of January may be a year, a first of a
-- month may be a month.
create macro is_new_year(day) as month(day) = 1 and day(day) = 1;

create macro not_before(later, earlier) as case
    when is_new_year(later) or is_new_year(earlier) then year(later) >= year(earlier)
    when day(later) = 1 or day(earlier) = 1 then date_trunc('month', later) >= date_trunc('month', earlier)
    else later >= earlier
end;

-- Whether a course may come after another: relapsing before progressive, and primary progressive stays so (CIS and RIS may
-- become anything). Empty where one of the two is none of the five courses.
create macro course_rank(course) as case course
    when 'RIS' then 0 when 'CIS' then 1 when 'RRMS' then 2 when 'SPMS' then 3 when 'PPMS' then 3
end;

create macro course_may_follow(before, after) as
    course_rank(after) >= course_rank(before)
    and not (before = 'PPMS' and after = 'SPMS') and not (before = 'SPMS' and after = 'PPMS');
